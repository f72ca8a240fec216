//! From files and environment to what a server starts from: the configuration, the data folder,
//! the rules of development.

mod configuration;
mod places;
mod upstream;
mod zt_off;

pub use configuration::Bundle;
pub use configuration::DiskFiles;
pub use configuration::FindError;
pub use configuration::Source;
pub use configuration::bundle;
pub use configuration::find;
pub use places::Places;
pub use places::admin_socket;
pub use places::operator;
pub use upstream::UpstreamError;
pub use upstream::configuration_for;
pub use zt_off::ZtOffError;
pub use zt_off::zt_off;
