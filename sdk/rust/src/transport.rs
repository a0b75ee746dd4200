//! Where the server is, and how TLS is spoken with it.

use std::sync::Arc;

use hyper::Uri;

use crate::error::Error;

/// The server's address.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// `http://` or `https://`, without a slash at the end.
    pub http: String,
    /// The same place as `ws://` or `wss://`.
    pub ws: String,
    /// Whether TLS is spoken.
    pub secure: bool,
}

impl Address {
    /// Reads `http://…`, `https://…`, `ws://…` or `wss://…`, with or without a path in front of `/v1`.
    ///
    /// Errors: [`Error::Invalid`].
    pub fn parse(url: &str) -> Result<Self, Error> {
        let bad = |what: &str| Error::Invalid(format!("`{url}` is no address of a server: {what}."));
        let uri: Uri = url.trim().parse().map_err(|_| bad("it is no URL"))?;
        let secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(bad("it has to begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("user names and passwords do not belong into it"));
        }
        if uri.query().is_some() {
            return Err(bad("it has a query"));
        }
        let rest = format!("{authority}{}", uri.path().trim_end_matches('/'));
        let (http, ws) = if secure { ("https", "wss") } else { ("http", "ws") };
        Ok(Self {
            http: format!("{http}://{rest}"),
            ws: format!("{ws}://{rest}"),
            secure,
        })
    }
}

/// The TLS configuration: the system's own certificates for a server that speaks TLS, none for others.
///
/// Errors: [`Error::Invalid`] where the system has no usable certificate.
pub(crate) fn tls(address: &Address) -> Result<Arc<rustls::ClientConfig>, Error> {
    let mut roots = rustls::RootCertStore::empty();
    if address.secure {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let what = "The system has no root certificates, so that no server can be trusted. Install the package \
                        `ca-certificates`, or name a file in SSL_CERT_FILE.";
            return Err(Error::Invalid(what.to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Invalid(format!("TLS cannot be set up: {error}.")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_place_for_http_and_sockets() {
        for (url, http, ws) in [
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787", "ws://127.0.0.1:8787"),
            ("https://a.example/", "https://a.example", "wss://a.example"),
            ("wss://a.example/x/", "https://a.example/x", "wss://a.example/x"),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!((address.http.as_str(), address.ws.as_str()), (http, ws));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in [
            "",
            "localhost",
            "ftp://a",
            "http://",
            "http://u:p@a",
            "http://a?token=x",
            "a b",
        ] {
            assert!(matches!(Address::parse(url), Err(Error::Invalid(_))), "{url}");
        }
    }
}
