//! `holdfast config`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value};

use super::cell;
use crate::args::AdminArgs;
use crate::exit::{Failure, Outcome};
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the live settings
    Show {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Change live settings
    Set {
        /// Settings as NAME=VALUE; a value is JSON, or text where it is not
        #[arg(required = true, value_name = "NAME=VALUE")]
        settings: Vec<String>,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Runs a config command.
pub(crate) async fn run(command: ConfigCommand) -> Outcome {
    let (admin, settings) = match command {
        ConfigCommand::Show { admin } => {
            let settings = admin.api()?.get("/v1/config").await?;
            (admin, settings)
        }
        ConfigCommand::Set { settings, admin } => {
            let patch = Value::Object(
                settings
                    .iter()
                    .map(|setting| parse(setting))
                    .collect::<Outcome<Map<_, _>>>()?,
            );
            let settings = admin.api()?.change(Method::PATCH, "/v1/config", &patch).await?;
            (admin, settings)
        }
    };
    output::print(admin.output, &settings, &["SETTING", "VALUE"], |settings| {
        let fields = settings.as_object().into_iter().flatten();
        fields
            .map(|(name, value)| vec![name.clone(), cell(value)])
            .collect()
    })
}

fn parse(setting: &str) -> Outcome<(String, Value)> {
    let (name, text) = setting
        .split_once('=')
        .ok_or_else(|| Failure::usage(format!("{setting}: expected NAME=VALUE")))?;
    Ok((
        name.to_owned(),
        serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_json_where_it_can_be() {
        assert_eq!(
            parse("replication_factor=5").unwrap(),
            ("replication_factor".into(), json!(5))
        );
        assert_eq!(parse("mode=fast").unwrap(), ("mode".into(), json!("fast")));
        assert!(parse("nothing").is_err());
    }
}
