//! What the kernel says about this process: memory, processor time, start. Nothing where there is no `/proc`.

use std::time::{SystemTime, UNIX_EPOCH};

/// One look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// bytes in memory
    pub resident: u64,
    /// bytes of them that are no file
    pub anonymous: u64,
    /// seconds of processor time, its own and the kernel's
    pub cpu: f64,
    /// Unix time of its start
    pub started: f64,
}

/// Looks now; `None` where the kernel does not say.
pub fn look() -> Option<Process> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let up = std::fs::read_to_string("/proc/uptime").ok()?;
    // SAFETY: sysconf takes a constant and no pointers
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let kib = |key: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().trim_end_matches(" kB").trim().parse().ok()
    };
    // the command's name may hold anything, brackets too: fields are counted from the last one
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |n: usize| fields.get(n).and_then(|field| field.parse::<f64>().ok());
    let up: f64 = up.split_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    Some(Process {
        resident: kib("VmRSS:")? << 10,
        anonymous: kib("RssAnon:")? << 10,
        cpu: (field(11)? + field(12)?) / ticks,
        started: now - up + field(19)? / ticks,
    })
}

/// Who listens on a TCP port of this machine, `pid 1234 (sluice)`, as far as this user may know.
pub fn listener(port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| {
            let of = |line: &str| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let at = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
                (at == port && fields.get(3) == Some(&LISTEN)).then(|| format!("socket:[{}]", fields[9]))
            };
            table.lines().skip(1).filter_map(of).collect::<Vec<_>>()
        })
        .collect();
    let holds = |pid: &str| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let mut links = open.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.any(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str())).then_some(())
    };
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().into_string().ok().filter(|name| name.bytes().all(|b| b.is_ascii_digit()))?;
        holds(&pid)?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some(format!("pid {pid} ({})", name.trim()))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen_as_it_is() {
        let seen = look().expect("Linux says so");
        assert!(seen.resident >= seen.anonymous && seen.anonymous > 1 << 16, "{seen:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(seen.started <= now + 1.0 && seen.started > now - 86_400.0, "{seen:?}");
        assert!(seen.cpu >= 0.0, "{seen:?}");
    }

    #[test]
    fn who_listens_is_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(listener(port).is_some_and(|who| who.starts_with(&format!("pid {} (", std::process::id()))));
        assert_eq!(listener(0), None, "nobody listens there");
    }
}
