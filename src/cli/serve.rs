//! `wattlake serve`.

use super::{Failure, output::say, settings::ServerFlags};
use crate::{server::Server, telemetry};

pub(super) async fn run(flags: ServerFlags) -> Result<(), Failure> {
    let Some(config) = flags.load()? else {
        return Ok(());
    };
    telemetry::start(&config.log);
    let server = Server::start(config).await?;
    say(&format!("wattlake listens on {}", server.address))?;
    if server.state.catalog.keys().await?.is_empty() {
        say("there is no key yet: `wattlake keys create --role admin --name NAME` makes one")?;
    }
    Ok(server.run().await?)
}
