"""TLS in front of a service, in good order for one connection and never again; no test."""

import asyncio
import ssl
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"
DAY = timedelta(days=1)


@contextmanager
def behind_tls(url: str, trusted: Path, strange: Path) -> Iterator[str]:
    """Where the service at `url` is found as well: by the first connection as `trusted`, by all later as `strange`."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(trusted)
    port: Future[int] = Future()

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        tls.load_cert_chain(strange)
        answers, questions = await asyncio.open_connection(HOST, urlsplit(url).port)
        await asyncio.gather(pass_on(reader, questions), pass_on(answers, writer))

    async def serve() -> None:
        async with await asyncio.start_server(connected, HOST, 0, ssl=tls) as server:
            port.set_result(server.sockets[0].getsockname()[1])
            await asyncio.to_thread(done.wait)

    done = threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield f"https://{HOST}:{port.result()}"
    finally:
        done.set()
        thread.join()


async def pass_on(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def a_certificate(path: Path) -> Path:
    """A new one of this host, signed by itself, with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.stem)])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - DAY)
        .not_valid_after(datetime.now(UTC) + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    of_the_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + of_the_key)
    return path


def trusting(certificate: Path, folder: Path) -> dict[str, str]:
    """The environment of a process on a machine whose certifi, as some distributions do it, points elsewhere."""
    (folder / "certifi.py").write_text(f"def where():\n    return {str(certificate)!r}\n")
    return {"PYTHONPATH": str(folder)}
