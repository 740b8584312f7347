//! Rules over 1, 3 and 10 columns of a visit, and over 3 of text, for the benchmarks of the boundary and of languages.
//!
//! Natively all of them are here, each as a `TWIN`: the very function with the very checks on its columns. A component is one
//! of them, as its feature says.

#[cfg(not(target_family = "wasm"))]
pub use sluice;

#[cfg(any(feature = "one", not(target_family = "wasm")))]
pub mod one;
#[cfg(any(feature = "ten", not(target_family = "wasm")))]
pub mod ten;
#[cfg(any(feature = "texts", not(target_family = "wasm")))]
pub mod texts;
#[cfg(any(feature = "three", not(target_family = "wasm")))]
pub mod three;
