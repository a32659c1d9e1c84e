//! Asking a running server whether it is ready; for container health checks, whose images have no curl.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the server at `address` for `/health/ready` over plain HTTP.
///
/// # Errors
/// When nothing answers within [`TIMEOUT`], or the status is not 200.
pub async fn check_health(address: SocketAddr) -> std::io::Result<()> {
    tokio::time::timeout(TIMEOUT, ask(address)).await.map_err(|_| Error::from(ErrorKind::TimedOut))?
}

async fn ask(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    // "HTTP/1.1 200"
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    if status.ends_with(b" 200") {
        Ok(())
    } else {
        Err(Error::other(format!("the answer was {}", String::from_utf8_lossy(&status))))
    }
}
