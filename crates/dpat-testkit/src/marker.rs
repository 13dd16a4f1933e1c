//! Auto traits, checked at compile time.

/// Compiles only if the type is `Send + Sync`.
pub const fn assert_send_sync<T: Send + Sync + ?Sized>() {}

/// Compiles only if the type is `Send`.
pub const fn assert_send<T: Send + ?Sized>() {}

/// Compiles only if the type is `Unpin`.
pub const fn assert_unpin<T: Unpin + ?Sized>() {}

/// Compiles only if the type is `Clone`.
pub const fn assert_clone<T: Clone>() {}

/// Compiles only if the value is `Send + 'static`, and returns it.
pub fn assert_send_static<T: Send + 'static>(value: T) -> T {
    value
}
