//! One visit under way: what it says, and its bytes.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::generate::{Damage, Kind, Spec};

/// One visit under way.
pub(super) struct Visit {
    pub(super) id: Vec<u8>,
    pub(super) partition: u32,
    /// records still to come
    pub(super) left: u32,
    /// whether damage by visit fell on it
    pub(super) spoilt: bool,
    /// bits of the top-level fields that are null from now on
    pub(super) nulls: u8,
    private: bool,
    /// as JSON
    user: Vec<u8>,
    /// as JSON, whether or not the visit shows it
    login: Vec<u8>,
    /// `context` up to the login
    context: Vec<u8>,
    /// `context` after the login
    rest: Vec<u8>,
}

impl Visit {
    pub(super) fn open(rng: &mut ChaCha8Rng, spec: &Spec) -> Visit {
        let number = rng.random_range(139_000_000_000_000_u64..141_000_000_000_000);
        let id = format!("{number}_{}", rng.random_range(0..100)).into_bytes();
        let user = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
        let (first, last) = (pick(rng, FIRST), pick(rng, LAST));
        let referral = match rng.random_range(0..9) {
            0 => "null".to_owned(),
            _ => format!("\"{}\"", pick(rng, REFERRALS)),
        };
        let ad = match rng.random_range(0..8) {
            0..3 => "null".to_owned(),
            _ => format!("\"autumn-campaign-2026/ad {}\"", rng.random_range(1..=6)),
        };
        let ip: [u8; 4] = rng.random();
        let since = match rng.random_range(0..3) {
            0 => {
                let mut text = b"\"".to_vec();
                write_time(&mut text, spec.start - rng.random_range(0..3_600_000_i64 * 24 * 60));
                text.push(b'"');
                String::from_utf8(text).expect("digits")
            }
            _ => "null".to_owned(),
        };
        let (browser, network, device) = (pick(rng, BROWSERS), pick(rng, NETWORKS), pick(rng, DEVICES));
        let partition = (fnv(&id) % u64::from(spec.partitions)) as u32;
        Visit {
            partition,
            left: rng.random_range(5..=500_u32) - 1,
            spoilt: matches!(spec.damage, Damage::Visits(share) if share.hits(rng)),
            nulls: 0,
            private: rng.random_range(0..4) == 0,
            user: format!("\"{number}_{user}\"").into_bytes(),
            login: format!("\"{first}.{last}{}@mail.example.org\"", rng.random_range(1..100)).into_bytes(),
            context: format!(
                r#"{{"referral":{referral},"ad_id":{ad},"user":{{"ip":"{}.{}.{}.{}","login":"#,
                ip[0], ip[1], ip[2], ip[3]
            )
            .into_bytes(),
            rest: format!(
                r#","connected_since":{since}}},"technical":{{"browser":"{browser}","browser_version":"{}.0.{}.{}","network_type":"{network}","device_type":"{}","device_version":"{}"}}}}"#,
                rng.random_range(20..140),
                rng.random_range(1_000..9_000),
                rng.random_range(10..100),
                device.0,
                device.1
            )
            .into_bytes(),
            id,
        }
    }

    /// Lays the record out in `out`.
    pub(super) fn render(&self, out: &mut Vec<u8>, time: i64, page: Page, damage: Option<Kind>) {
        let shown = |field: u8| self.nulls & (1 << field) == 0;
        out.clear();
        out.extend_from_slice(b"{\"visit_id\":");
        if shown(0) {
            quoted(out, |out| out.extend_from_slice(&self.id));
        } else {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"event_time\":");
        if shown(1) {
            quoted(out, |out| write_time(out, time));
        } else {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"user_id\":");
        out.extend_from_slice(if shown(2) && damage != Some(Kind::NoUser) { &self.user } else { b"null" });
        out.extend_from_slice(b",\"keep_private\":");
        let private = self.private || damage == Some(Kind::LoginExposed);
        out.extend_from_slice(match (damage, private) {
            (Some(Kind::WrongType), _) => b"\"yes\"",
            _ if !shown(3) => b"null",
            (_, true) => b"true",
            (_, false) => b"false",
        });
        out.extend_from_slice(b",\"page\":");
        if shown(4) && damage != Some(Kind::NoPage) {
            quoted(out, |out| page.render(out));
        } else {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"context\":");
        if shown(5) {
            out.extend_from_slice(&self.context);
            let login = !private || damage == Some(Kind::LoginExposed);
            out.extend_from_slice(if login { &self.login } else { b"null" });
            out.extend_from_slice(&self.rest);
        } else {
            out.extend_from_slice(b"null");
        }
        out.push(b'}');
    }
}

fn quoted(out: &mut Vec<u8>, text: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    text(out);
    out.push(b'"');
}

#[derive(Clone, Copy)]
pub(super) struct Page {
    name: &'static str,
    number: Option<u8>,
}

impl Page {
    fn render(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name.as_bytes());
        if let Some(number) = self.number {
            if number >= 10 {
                out.push(b'0' + number / 10);
            }
            out.push(b'0' + number % 10);
        }
    }
}

/// One of the site's pages.
pub(super) fn page(rng: &mut ChaCha8Rng) -> Page {
    let number = rng.random_range(1..=20);
    match rng.random_range(0..10_usize) {
        named @ 0..6 => Page { name: ["index", "contact", "home", "main", "about", "categories"][named], number: None },
        6 | 7 => Page { name: "category_", number: Some(number) },
        _ => Page { name: "page_", number: Some(number) },
    }
}

fn pick<T: Copy>(rng: &mut ChaCha8Rng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

/// FNV-1a: the partition of a key must not change with a library's version.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// `2026-11-01T08:12:44.123+00:00`, for milliseconds from year 0 to 9999. The civil date is Howard Hinnant's algorithm.
fn write_time(out: &mut Vec<u8>, millis: i64) {
    let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000) as u32);
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00.000+00:00";
    let mut put = |at: usize, digits: usize, mut value: u32| {
        for place in (at..at + digits).rev() {
            text[place] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year as u32);
    put(5, 2, month as u32);
    put(8, 2, day as u32);
    put(11, 2, rest / 3_600_000);
    put(14, 2, rest / 60_000 % 60);
    put(17, 2, rest / 1_000 % 60);
    put(20, 3, rest % 1_000);
    out.extend_from_slice(&text);
}

const FIRST: &[&str] = &["maria", "jonas", "aisha", "piotr", "chen", "lucia", "omar", "ingrid", "tomas", "yuki"];
const LAST: &[&str] = &["lind", "keller", "rossi", "nowak", "silva", "haddad", "berg", "tanaka", "moreau", "kovacs"];
const REFERRALS: &[&str] = &["Google Ads", "LinkedIn", "Facebook", "Medium", "StackOverflow", "Newsletter", "Search"];
const BROWSERS: &[&str] = &["Chrome", "Firefox", "Safari", "Edge", "Opera"];
const NETWORKS: &[&str] = &["Wi-Fi", "4G", "5G", "Ethernet"];
const DEVICES: &[(&str, &str)] = &[
    ("galaxy", "Android 11"),
    ("galaxy", "Android 13"),
    ("htc", "Android 14"),
    ("iphone", "iOS 13"),
    ("iphone", "iOS 14"),
    ("lg", "Android 12"),
    ("PC", "Windows 11"),
    ("mac", "macOS 14"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::START;

    #[test]
    fn times_are_written_as_chrono_reads_them() {
        for millis in [0, START, -1, 951_782_399_999, 951_782_400_000, 4_107_542_399_999, -62_135_596_800_000] {
            let mut text = Vec::new();
            write_time(&mut text, millis);
            let text = String::from_utf8(text).unwrap();
            let read = chrono::DateTime::parse_from_rfc3339(&text).unwrap().timestamp_millis();
            assert_eq!(read, millis, "{text}");
        }
    }
}
