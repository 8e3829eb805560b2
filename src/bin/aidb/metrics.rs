//! `aidb metrics` and `aidb explain`.
//!
//! Metrics are read by opening the database for reading, which changes nothing
//! and may be done while another process writes it. What is counted since the
//! opening (operations, compactions) is that process's own and not seen here: a
//! program serves it itself, with `aidb::metrics`.

use std::ffi::OsStr;
use std::io::Write;

use aidb::metrics;
use tiny_http::{Header, Method, Response, Server};

use crate::args::Common;
use crate::failure::{Failure, complain};
use crate::{family, open_to_read, text};

/// The path that Prometheus asks for.
const PATH: &str = "/metrics";

/// Prints the metrics once, or serves them until the process is ended.
pub(crate) fn metrics(
    common: &Common,
    listen: Option<&str>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let text = scrape(common)?;
    let Some(address) = listen else { return Ok(out.write_all(text.as_bytes())?) };
    let server = Server::http(address)
        .map_err(|why| Failure::Data(format!("listen on {address}: {why}")))?;
    // The port, if it was for the system to choose.
    writeln!(out, "serving http://{}{PATH}", server.server_addr())?;
    out.flush()?;
    for request in server.incoming_requests() {
        let answer = match (request.method(), request.url()) {
            (Method::Get | Method::Head, PATH) => match scrape(common) {
                Ok(text) => response(200, text, metrics::CONTENT_TYPE),
                Err(failure) => {
                    complain(&failure);
                    response(503, format!("{failure}\n"), "text/plain")
                }
            },
            (Method::Get | Method::Head, _) => {
                response(404, format!("metrics are at {PATH}\n"), "text/plain")
            }
            _ => response(405, "only GET is answered\n".into(), "text/plain"),
        };
        // Whoever asked may be gone.
        let _ = request.respond(answer);
    }
    Ok(())
}

fn response(status: u16, text: String, content_type: &str) -> Response<std::io::Cursor<Vec<u8>>> {
    let header = Header::from_bytes("Content-Type", content_type).expect("a constant header");
    Response::from_string(text).with_status_code(status).with_header(header)
}

fn scrape(common: &Common) -> Result<String, Failure> {
    Ok(metrics::encode(&open_to_read(common)?.stats()))
}

/// Prints how a key is looked up.
pub(crate) fn explain(common: &Common, key: &OsStr, out: &mut impl Write) -> Result<(), Failure> {
    let key = text::argument(key, common.encoding())?;
    let db = open_to_read(common)?;
    Ok(writeln!(out, "{}", family(&db, common)?.explain_get(&key)?)?)
}
