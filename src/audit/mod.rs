//! The audit log as it is filled: what a request or a command learns of itself on its way, and the one writer that entries go
//! through, in groups.

mod recorder;
mod trail;

pub use recorder::{Recorder, RecorderError, Room};
pub use trail::{Learned, Trail, note, trail};
