//! Vectors in SQLite: the extension `sqlite-vec` compares them, and blobs of 32-bit floats hold them.

use rusqlite::auto_extension::{RawAutoExtension, register_auto_extension};

/// Gives `vec_distance_cosine` to every connection that is opened from now on. Doing it again changes nothing.
pub(super) fn install() -> rusqlite::Result<()> {
    #[expect(unsafe_code, reason = "the extension's entry point is C, whose binding leaves out the parameters")]
    unsafe {
        let entry = std::mem::transmute::<*const (), RawAutoExtension>(sqlite_vec::sqlite3_vec_init as *const ());
        register_auto_extension(entry)
    }
}

/// A vector as the extension reads it.
pub(super) fn blob(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}
