//! `wattlake serve`.

use super::{Failure, output::say, settings::ServerFlags};
use crate::{
    server::{Server, StopSignals},
    telemetry,
};

pub(super) async fn run(flags: ServerFlags) -> Result<(), Failure> {
    let Some(config) = flags.load()? else {
        return Ok(());
    };
    telemetry::start(&config.log);
    let stop = StopSignals::listen()?;
    let server = Server::start(config).await?;
    say(&format!("wattlake listens on {}", server.address))?;
    if server.state.catalog.keys().await?.is_empty() {
        say("there is no key yet: `wattlake keys create --role admin --name NAME` makes one")?;
    }
    server.run_until(stop.received()).await;
    Ok(())
}
