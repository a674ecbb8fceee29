//! What a certificate says.

use std::path::Path;

use holdfast_common::tls;
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::exit::{Failure, Outcome};
use crate::output::{self, Format};

/// Prints the certificates of a file.
pub(super) fn run(file: &Path, format: Format) -> Outcome {
    let chain = tls::read_chain(file).map_err(Failure::usage)?;
    let described: Vec<Value> = chain.iter().map(|der| describe(der)).collect::<Outcome<_>>()?;
    if described.is_empty() {
        return Err(Failure::usage(format!(
            "{}: no certificate in it",
            file.display()
        )));
    }
    let header = ["SUBJECT", "NAMES", "NOT BEFORE", "NOT AFTER", "AUTHORITY"];
    output::print(format, &described, &header, |all| all.iter().map(row).collect())
}

fn describe(der: &[u8]) -> Outcome<Value> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| Failure::usage("a certificate can't be read"))?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<String> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(written)
        .collect();
    let validity = certificate.validity();
    Ok(json!({
        "subject": certificate.subject().to_string(),
        "issuer": certificate.issuer().to_string(),
        "names": names,
        "not_before": validity.not_before.to_string(),
        "not_after": validity.not_after.to_string(),
        "is_valid_now": validity.is_valid(),
        "is_authority": certificate.is_ca(),
    }))
}

fn written(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::URI(text) | GeneralName::DNSName(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|octets| std::net::Ipv6Addr::from(octets).to_string()),
        },
        _ => None,
    }
}

fn row(certificate: &Value) -> Vec<String> {
    let text = |name: &str| certificate[name].as_str().unwrap_or_default().to_owned();
    let names = certificate["names"].as_array().into_iter().flatten();
    let names: Vec<&str> = names.filter_map(Value::as_str).collect();
    vec![
        text("subject"),
        names.join(" "),
        text("not_before"),
        text("not_after"),
        certificate["is_authority"].to_string(),
    ]
}
