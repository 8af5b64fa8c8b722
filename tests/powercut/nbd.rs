//! The server's side of the NBD protocol, as much of it as QEMU needs: fixed newstyle negotiation, simple replies.
//!
//! Source: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>. All numbers are big-endian.

use std::io::{self, Read, Write};

/// What a client may ask of a disk.
pub trait Device {
    /// Bytes.
    fn size(&self) -> u64;

    /// Carries out one request and fills in what was read.
    ///
    /// `Ok(None)`: the power is off; there will be no reply, to this request and to all that follow.
    fn carry_out(&self, request: Request) -> io::Result<Option<Result<Vec<u8>, Refusal>>>;
}

#[derive(Debug)]
pub enum Request {
    Read { offset: u64, length: u32 },
    Write { offset: u64, bytes: Vec<u8>, fua: bool },
    WriteZeroes { offset: u64, length: u32, fua: bool },
    Flush,
}

/// The errors of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Invalid = 22,
    NoSpace = 28,
}

const HANDSHAKE_MAGIC: &[u8; 16] = b"NBDMAGICIHAVEOPT";
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

const FLAG_FIXED_NEWSTYLE: u16 = 1;
const FLAG_NO_ZEROES: u16 = 1 << 1;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;

const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = (1 << 31) + 1;
const INFO_EXPORT: u16 = 0;

/// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES.
const EXPORT_FLAGS: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6;

const COMMAND_FUA: u16 = 1;
/// No request that the protocol allows without asking is longer. Bytes.
const MAX_PAYLOAD: u32 = 32 << 20;
/// No option that QEMU sends is longer. Bytes.
const MAX_OPTION: u32 = 4096;

/// Serves one client until it goes. When the power goes, the client hears nothing more, but stays connected.
pub fn serve(client: &mut (impl Read + Write), device: &impl Device) -> io::Result<()> {
    if !negotiate(client, device.size())? {
        return Ok(());
    }
    while let Some((cookie, request)) = read_request(client)? {
        let outcome = match request {
            Ok(request) => device.carry_out(request)?,
            Err(refusal) => Some(Err(refusal)),
        };
        match outcome {
            Some(outcome) => reply(client, cookie, outcome)?,
            None => return hear_out(client),
        }
    }
    Ok(())
}

/// Says whether the client goes on to requests.
fn negotiate(client: &mut (impl Read + Write), size: u64) -> io::Result<bool> {
    client.write_all(HANDSHAKE_MAGIC)?;
    client.write_all(&(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_be_bytes())?;
    let client_flags = u32::from_be_bytes(array(client)?);
    let no_zeroes = client_flags & u32::from(FLAG_NO_ZEROES) != 0;
    loop {
        if array(client)? != *OPTION_MAGIC {
            return Err(malformed("an option without its magic number"));
        }
        let option = u32::from_be_bytes(array(client)?);
        let length = u32::from_be_bytes(array(client)?);
        if length > MAX_OPTION {
            return Err(malformed("an option that is too long"));
        }
        // The export's name among it does not matter: there is one.
        bytes(client, length)?;
        match option {
            OPTION_EXPORT_NAME => {
                client.write_all(&size.to_be_bytes())?;
                client.write_all(&EXPORT_FLAGS.to_be_bytes())?;
                if !no_zeroes {
                    client.write_all(&[0; 124])?;
                }
                return Ok(true);
            }
            OPTION_ABORT => {
                reply_to_option(client, option, REPLY_ACK, &[])?;
                return Ok(false);
            }
            OPTION_INFO | OPTION_GO => {
                let mut info = INFO_EXPORT.to_be_bytes().to_vec();
                info.extend(size.to_be_bytes());
                info.extend(EXPORT_FLAGS.to_be_bytes());
                reply_to_option(client, option, REPLY_INFO, &info)?;
                reply_to_option(client, option, REPLY_ACK, &[])?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            _ => reply_to_option(client, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn reply_to_option(client: &mut impl Write, option: u32, kind: u32, payload: &[u8]) -> io::Result<()> {
    let mut message = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    message.extend(option.to_be_bytes());
    message.extend(kind.to_be_bytes());
    message.extend(u32::try_from(payload.len()).expect("a few bytes").to_be_bytes());
    message.extend(payload);
    client.write_all(&message)
}

type Asked = (u64, Result<Request, Refusal>);

/// `None` when the client has gone.
fn read_request(client: &mut impl Read) -> io::Result<Option<Asked>> {
    let magic = match array(client) {
        Ok(magic) => u32::from_be_bytes(magic),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if magic != REQUEST_MAGIC {
        return Err(malformed("a request without its magic number"));
    }
    let fua = u16::from_be_bytes(array(client)?) & COMMAND_FUA != 0;
    let command = u16::from_be_bytes(array(client)?);
    let cookie = u64::from_be_bytes(array(client)?);
    let offset = u64::from_be_bytes(array(client)?);
    let length = u32::from_be_bytes(array(client)?);
    let request = match command {
        0 if length <= MAX_PAYLOAD => Ok(Request::Read { offset, length }),
        1 if length > MAX_PAYLOAD => return Err(malformed("a write that is too long")),
        1 => Ok(Request::Write { offset, bytes: bytes(client, length)?, fua }),
        2 => return Ok(None),
        3 => Ok(Request::Flush),
        // What is trimmed may read as anything; zeroes are what the clients of other disks mostly find.
        4 | 6 => Ok(Request::WriteZeroes { offset, length, fua }),
        _ => Err(Refusal::Invalid),
    };
    Ok(Some((cookie, request)))
}

fn reply(client: &mut impl Write, cookie: u64, outcome: Result<Vec<u8>, Refusal>) -> io::Result<()> {
    let (error, payload) = match outcome {
        Ok(payload) => (0, payload),
        Err(refusal) => (refusal as u32, Vec::new()),
    };
    // One write: QEMU wakes up once.
    let mut message = Vec::with_capacity(16 + payload.len());
    message.extend(REPLY_MAGIC.to_be_bytes());
    message.extend(error.to_be_bytes());
    message.extend(cookie.to_be_bytes());
    message.extend(payload);
    client.write_all(&message)
}

/// Takes what still comes, so that the client is stopped by silence and not by an error, until it goes.
fn hear_out(client: &mut impl Read) -> io::Result<()> {
    io::copy(client, &mut io::sink()).map(drop)
}

fn array<const N: usize>(client: &mut impl Read) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    client.read_exact(&mut array)?;
    Ok(array)
}

fn bytes(client: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
