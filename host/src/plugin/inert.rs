//! Stand-ins for WASI 0.2, for a finished component that imports it (`wasi = "inert"`): builds for wasm32-wasip2 do.
//!
//! The same world as `plugins/adapter` gives at build time: a clock that only sleeping advances, the same random bytes at
//! every call, no files, no arguments, no environment, no network; what is written to standard output and error goes to
//! the host's log. Whatever else is asked answers an error or nothing, by its type alone, so that every interface of WASI 0.2
//! is served, whichever of its versions the component was made for. Nothing of the system is reached from here.
//!
//! Types are the component's own: what its world says of WASI is taken at its word ([`super::sections`]), since nobody
//! but the component depends on it.

use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, Linker, Resource, ResourceType, Type, Val};
use wasmtime::{Error, Result, StoreContextMut, Trap, bail};

use super::log::Level;
use super::sandbox::State;

/// What a handle of WASI stands for; there is nothing behind it.
enum Handle {}

/// Which output stream a handle is; all others are nothing.
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// Bytes that an output stream takes at once, and random bytes that are handed out at once.
const PIECE: u64 = 1 << 16;

/// A list that was asked for is no longer than this: pollables, or random bytes.
const LONGEST: usize = 1 << 20;

/// The clock of one instance, in nanoseconds. It begins at 1970-01-01T00:00:01Z: a monotonic clock that reads 0 is taken for
/// one that never ran.
#[derive(Debug)]
pub(super) struct Clock(u64);

impl Default for Clock {
    fn default() -> Self {
        Clock(1_000_000_000)
    }
}

/// Whether an import is stood in for: `wasi:cli/environment@0.2.6`. Later versions of WASI work otherwise.
pub(super) fn is_stood_in(import: &str) -> bool {
    import.starts_with("wasi:") && import.split_once('@').is_some_and(|(_, version)| version.starts_with("0.2."))
}

/// Defines what the component imports of WASI 0.2.
pub(super) fn link(linker: &mut Linker<State>, component: &Component) -> Result<()> {
    let engine = component.engine();
    for (import, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        if !is_stood_in(import) {
            continue;
        }
        let mut defined = linker.instance(import)?;
        for (name, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    let call = Call::of(import, name);
                    defined.func_new(name, move |store, ty, arguments, results| {
                        call.answer(store, &ty, arguments, results)
                    })?;
                }
                ComponentItem::Resource(_) => {
                    defined.resource(name, ResourceType::host::<Handle>(), |_, _| Ok(()))?;
                }
                // types need no definition, and an instance of WASI holds nothing else
                ComponentItem::Type(_)
                | ComponentItem::CoreFunc(_)
                | ComponentItem::Module(_)
                | ComponentItem::Component(_)
                | ComponentItem::ComponentInstance(_) => {}
            }
        }
    }
    Ok(())
}

/// What an imported function is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Now,
    WallNow,
    Resolution,
    SleepUntil,
    SleepFor,
    Poll,
    Ready,
    RandomBytes,
    Output(u32),
    CheckWrite,
    Write,
    Flush,
    Exit,
    /// an error where the type has one, nothing otherwise
    Nothing,
}

impl Call {
    fn of(import: &str, function: &str) -> Call {
        let interface = import.split('@').next().unwrap_or_default();
        match (interface, function) {
            ("wasi:clocks/monotonic-clock", "now") => Call::Now,
            ("wasi:clocks/monotonic-clock", "resolution") => Call::Resolution,
            ("wasi:clocks/monotonic-clock", "subscribe-instant") => Call::SleepUntil,
            ("wasi:clocks/monotonic-clock", "subscribe-duration") => Call::SleepFor,
            ("wasi:clocks/wall-clock", "now") => Call::WallNow,
            ("wasi:io/poll", "poll") => Call::Poll,
            ("wasi:io/poll", "[method]pollable.ready") => Call::Ready,
            ("wasi:random/random", "get-random-bytes") => Call::RandomBytes,
            ("wasi:random/insecure", "get-insecure-random-bytes") => Call::RandomBytes,
            ("wasi:cli/stdout", "get-stdout") => Call::Output(STDOUT),
            ("wasi:cli/stderr", "get-stderr") => Call::Output(STDERR),
            ("wasi:io/streams", "[method]output-stream.check-write") => Call::CheckWrite,
            ("wasi:io/streams", "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush") => {
                Call::Write
            }
            ("wasi:io/streams", "[method]output-stream.flush" | "[method]output-stream.blocking-flush") => Call::Flush,
            ("wasi:cli/exit", "exit" | "exit-with-code") => Call::Exit,
            _ => Call::Nothing, // of an open set, some hundred functions
        }
    }

    fn answer(
        self,
        mut store: StoreContextMut<'_, State>,
        ty: &ComponentFunc,
        arguments: &[Val],
        results: &mut [Val],
    ) -> Result<()> {
        let handles = handles(&mut store, arguments)?;
        let clock = &mut store.data_mut().clock.0;
        let answer = match (self, arguments) {
            (Call::Now, _) => Some(Val::U64(*clock)),
            (Call::Resolution, _) => Some(Val::U64(1)),
            (Call::WallNow, _) => Some(Val::Record(vec![
                ("seconds".into(), Val::U64(*clock / 1_000_000_000)),
                ("nanoseconds".into(), Val::U32((*clock % 1_000_000_000) as u32)),
            ])),
            // whoever subscribes waits next, and nothing else could happen before
            (Call::SleepUntil, [Val::U64(instant)]) => {
                *clock = (*clock).max(*instant);
                None
            }
            (Call::SleepFor, [Val::U64(duration)]) => {
                *clock = clock.saturating_add(*duration);
                None
            }
            (Call::Poll, [Val::List(all)]) if all.len() <= LONGEST => {
                Some(Val::List((0..all.len() as u32).map(Val::U32).collect()))
            }
            (Call::Ready, _) => Some(Val::Bool(true)),
            (Call::RandomBytes, [Val::U64(bytes)]) if *bytes <= LONGEST as u64 => Some(random(*bytes)),
            (Call::Output(stream), _) => Some(handle(&mut store, stream)?),
            (Call::CheckWrite, _) => Some(ok(Some(Val::U64(PIECE)))),
            (Call::Write, [_, Val::List(bytes)]) => {
                write(store.data_mut(), handles.first().copied(), bytes);
                Some(ok(None))
            }
            (Call::Flush, _) => Some(ok(None)),
            (Call::Exit, _) => {
                store.data_mut().log(Level::Error, "it called exit, and a plugin is a part of a running host");
                return Err(Trap::UnreachableCodeReached.into());
            }
            // also where an argument is not of the type that WASI says: the component's word is only its own
            (Call::SleepUntil | Call::SleepFor | Call::Poll | Call::RandomBytes | Call::Write | Call::Nothing, _) => {
                None
            }
        };
        let mut answer = answer;
        for (result, ty) in results.iter_mut().zip(ty.results()) {
            *result = match answer.take() {
                Some(answer) => answer,
                None => nothing(&mut store, &ty)?,
            };
        }
        Ok(())
    }
}

/// What the handles among the arguments stand for. A handle that is lent must be given back, one that is given must be ended.
fn handles(store: &mut StoreContextMut<'_, State>, arguments: &[Val]) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for argument in arguments {
        match argument {
            Val::Resource(resource) => found.push(resource.try_into_resource::<Handle>(&mut *store)?.rep()),
            Val::List(items) if matches!(items.first(), Some(Val::Resource(_))) => {
                found.extend(handles(store, items)?);
            }
            Val::Option(Some(inner)) => found.extend(handles(store, std::slice::from_ref(&**inner))?),
            _ => {} // no other argument of WASI 0.2 holds handles
        }
    }
    Ok(found)
}

fn handle(store: &mut StoreContextMut<'_, State>, rep: u32) -> Result<Val> {
    Ok(Val::Resource(Resource::<Handle>::new_own(rep).try_into_resource_any(store)?))
}

fn ok(value: Option<Val>) -> Val {
    Val::Result(Ok(value.map(Box::new)))
}

/// The adapter's congruence, from the same seed at every call.
fn random(bytes: u64) -> Val {
    let mut state = 88_172_645_463_325_252_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Val::U8((state >> 56) as u8)
    };
    Val::List((0..bytes).map(next).collect())
}

fn write(state: &mut State, stream: Option<u32>, bytes: &[Val]) {
    let level = match stream {
        Some(STDOUT) => Level::Info,
        Some(STDERR) => Level::Warn,
        Some(_) | None => return,
    };
    let byte = |value: &Val| if let Val::U8(byte) = value { *byte } else { b'?' };
    let bytes: Vec<u8> = bytes.iter().map(byte).collect();
    for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.is_empty()) {
        state.log(level, line);
    }
}

/// An error where there is one, otherwise as little as the type allows.
fn nothing(store: &mut StoreContextMut<'_, State>, ty: &Type) -> Result<Val> {
    let mut of = |ty: Type| nothing(store, &ty);
    Ok(match ty {
        Type::Bool => Val::Bool(false),
        Type::S8 => Val::S8(0),
        Type::U8 => Val::U8(0),
        Type::S16 => Val::S16(0),
        Type::U16 => Val::U16(0),
        Type::S32 => Val::S32(0),
        Type::U32 => Val::U32(0),
        Type::S64 => Val::S64(0),
        Type::U64 => Val::U64(0),
        Type::Float32 => Val::Float32(0.0),
        Type::Float64 => Val::Float64(0.0),
        Type::Char => Val::Char('\0'),
        Type::String => Val::String(String::new()),
        Type::List(_) => Val::List(Vec::new()),
        Type::Option(_) => Val::Option(None),
        Type::Flags(_) => Val::Flags(Vec::new()),
        Type::Enum(names) => Val::Enum(names.names().next().unwrap_or_default().into()),
        Type::Record(record) => {
            let fields: Vec<_> = record.fields().map(|field| (field.name.to_owned(), field.ty)).collect();
            Val::Record(fields.into_iter().map(|(name, ty)| Ok((name, of(ty)?))).collect::<Result<_>>()?)
        }
        Type::Tuple(tuple) => Val::Tuple(tuple.types().map(of).collect::<Result<_>>()?),
        Type::Result(result) => match result.err() {
            Some(error) => Val::Result(Err(Some(Box::new(closed_or(&mut of, error)?)))),
            None => Val::Result(Err(None)),
        },
        Type::Variant(variant) => {
            let case = variant.cases().next().map(|case| (case.name.to_owned(), case.ty));
            let (name, ty) = case.ok_or_else(|| Error::msg("a variant has a case"))?;
            Val::Variant(name, ty.map(of).transpose()?.map(Box::new))
        }
        Type::Own(_) => handle(store, 0)?,
        other => bail!("it asks WASI for {other:?}, which is not of version 0.2"),
    })
}

/// A stream that is at its end says `closed`; any other error is the first of its kind.
fn closed_or(of: &mut impl FnMut(Type) -> Result<Val>, error: Type) -> Result<Val> {
    if let Type::Variant(variant) = &error
        && variant.cases().any(|case| case.name == "closed" && case.ty.is_none())
    {
        return Ok(Val::Variant("closed".into(), None));
    }
    of(error)
}
