//! What tests of patterns have in common that look at calls to the outside alone.

use alloc::vec::Vec;

use tidegate_protocol::Error;
pub use tidegate_protocol::calls::reporting::MetadataPatch;
pub use tidegate_protocol::event::Progress;
pub use tidegate_protocol::ids::StreamName;

use crate::operation::Reader;

/// An object without bytes.
pub struct Nothing;

impl Reader for Nothing {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }
}

/// The methods of a [`Context`](crate::operation::Context) in which nothing is stored and nothing is said of the job.
macro_rules! stores_nothing {
    () => {
        type Reader = $crate::testing::Nothing;
        async fn progress(&self, _: $crate::testing::Progress) -> Result<(), Error> {
            Ok(())
        }
        async fn output(&self, _: &$crate::testing::StreamName, _: &str) -> Result<(), Error> {
            panic!("nothing is written");
        }
        async fn patch_metadata(&self, _: Vec<$crate::testing::MetadataPatch>) -> Result<(), Error> {
            panic!("nothing is changed");
        }
        async fn checkpoint(&self) -> Result<Option<Vec<u8>>, Error> {
            Ok(None)
        }
        async fn save_checkpoint(&self, _: Vec<u8>, _: $crate::testing::Progress) -> Result<(), Error> {
            Ok(())
        }
        async fn open(
            &self,
            _: &str,
            _: u64,
            _: Option<&str>,
        ) -> Result<Option<$crate::operation::Opened<$crate::testing::Nothing>>, Error> {
            Ok(None)
        }
        async fn put(&self, _: &str, _: &str, _: Vec<u8>) -> Result<(), Error> {
            Ok(())
        }
    };
}
pub(crate) use stores_nothing;
