//! What starts sidecars.
