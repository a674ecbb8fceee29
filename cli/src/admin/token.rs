//! `holdfast token`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::cell;
use crate::args::AdminArgs;
use crate::exit::Outcome;
use crate::output;

const HEADER: [&str; 7] = ["ID", "NAME", "KIND", "ROLE", "PREFIXES", "EXPIRES", "LIMITS"];

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, once; the first one has to be an admin's, and closes the cluster to those without
    Create(CreateArgs),
    /// Print the credentials that there are
    Ls {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// As `ls`
    #[command(hide = true)]
    List {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Make a token or the grant to a certificate worthless, everywhere within seconds
    Revoke {
        /// Its id, as `holdfast token ls` prints it
        id: u64,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Set whether requests need a credential
    Require {
        /// Whether they do
        #[arg(value_enum)]
        required: Switch,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// For people, and for the audit log
    #[arg(long)]
    name: String,
    /// What it allows
    #[arg(long, value_enum)]
    role: TokenRole,
    /// The keys for which it allows that begin with this; may be given again
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,
    /// How long it is good: 90s, 30m, 12h, 7d
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    expires_in: Option<u64>,
    /// Grant it to the client certificate of this name rather than to a token
    #[arg(long, value_name = "NAME")]
    certificate: Option<String>,
    /// Most requests a second at each router
    #[arg(long, value_name = "N", default_value_t = 0)]
    requests_per_second: u32,
    /// Most bytes of bodies a second at each router
    #[arg(long, value_name = "N", default_value_t = 0)]
    bytes_per_second: u64,
    /// Most requests at a time at each router
    #[arg(long, value_name = "N", default_value_t = 0)]
    concurrent_requests: u32,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum TokenRole {
    Admin,
    ReadWrite,
    ReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// Runs a token command.
pub(crate) async fn run(command: TokenCommand) -> Outcome {
    match command {
        TokenCommand::Create(args) => create(&args).await,
        TokenCommand::Ls { admin } | TokenCommand::List { admin } => {
            let tokens = admin.api()?.list("/v1/tokens").await?;
            output::print(admin.output, &tokens, &HEADER, |tokens| {
                tokens.iter().map(row).collect()
            })
        }
        TokenCommand::Revoke { id, admin } => {
            let api = admin.api()?;
            api.send(api.request(Method::DELETE, &format!("/v1/tokens/{id}")))
                .await?;
            output::line(format_args!("revoked {id}"))
        }
        TokenCommand::Require { required, admin } => {
            let body = json!({"required": required == Switch::On});
            let answer = admin.api()?.change(Method::PUT, "/v1/auth", &body).await?;
            let required = answer["required"] == Value::Bool(true);
            output::line(if required {
                "requests need a credential"
            } else {
                "requests need no credential: whoever can reach the cluster can read and change it"
            })
        }
    }
}

async fn create(args: &CreateArgs) -> Outcome {
    let body = json!({
        "name": args.name,
        "role": args.role,
        "prefixes_base64": args.prefixes.iter().map(|prefix| STANDARD.encode(prefix)).collect::<Vec<_>>(),
        "ttl_seconds": args.expires_in,
        "certificate": args.certificate,
        "limits": {
            "requests_per_second": args.requests_per_second,
            "bytes_per_second": args.bytes_per_second,
            "concurrent_requests": args.concurrent_requests,
        },
    });
    let made = args
        .admin
        .api()?
        .change(Method::POST, "/v1/tokens", &body)
        .await?;
    if args.admin.output == output::Format::Json {
        return output::json(&made);
    }
    match made["token"].as_str() {
        // Nothing else on standard output: TOKEN=$(holdfast token create …)
        Some(token) => {
            eprintln!("holdfast: this is shown once; whoever has it is let in");
            output::line(token)
        }
        None => output::line(format_args!(
            "granted to certificate {}",
            cell(&made["certificate"])
        )),
    }
}

fn row(token: &Value) -> Vec<String> {
    let list = |name: &str| {
        let items = token[name].as_array().into_iter().flatten();
        items.map(cell).collect::<Vec<_>>().join(" ")
    };
    let limits = token["limits"].as_object().into_iter().flatten();
    let limits = limits.filter(|(_, value)| **value != json!(0));
    let limits: Vec<String> = limits.map(|(name, value)| format!("{name}={value}")).collect();
    vec![
        cell(&token["id"]),
        cell(&token["name"]),
        cell(&token["kind"]),
        cell(&token["role"]),
        list("prefixes") + &list("prefixes_base64"),
        token["expires_ms"]
            .as_u64()
            .map_or_else(|| "never".to_owned(), |ms| (ms / 1_000).to_string()),
        limits.join(" "),
    ]
}

/// A duration with its unit, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "expected a number and s, m, h or d, as in 12h".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number
        .checked_mul(factor)
        .filter(|seconds| *seconds > 0)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("7d"), Ok(604_800));
        for wrong in ["", "7", "d", "0s", "-1h", "1w", "99999999999999999999d", "7é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
