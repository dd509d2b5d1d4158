//! pingora-core asks for `flate2` with zlib-ng, whose C sources need cmake at build time. `make run` is to need
//! Rust alone (with the C compiler that Rust links with), so the workspace patches that crate by this one: the
//! same names, from stock zlib, which `cc` builds. The edge compresses nothing.
//! Invariant: nothing but a re-export; libz-sys and libz-ng-sys share one interface.

pub use libz_sys::*;
