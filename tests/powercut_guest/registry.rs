//! A registry with images without end, on the guest's loopback. Many of its connections break.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::images::{MANIFEST, MadeImage};
use super::listing::digest;
use crate::server::{Answer, End, Request, Server};

/// Bytes by the last word of their address: a tag or a digest.
type Offered = HashMap<String, Vec<u8>>;

pub struct Registry {
    server: Server,
    offered: Arc<Mutex<Offered>>,
}

impl Registry {
    pub fn start() -> Registry {
        let offered = Arc::new(Mutex::new(Offered::new()));
        let (known, count) = (offered.clone(), AtomicU64::new(0));
        let server = Server::start(move |request| answer(request, &known.lock().unwrap(), &count));
        Registry { server, offered }
    }

    /// From now on it has this image, under the reference that is returned.
    pub fn offer(&self, image: &MadeImage) -> String {
        let mut offered = self.offered.lock().unwrap();
        let mut add = |bytes: Vec<u8>| drop(offered.insert(format!("sha256:{}", digest(&bytes)), bytes));
        image.layers.iter().for_each(|layer| add(layer.bytes.clone()));
        add(image.config());
        add(image.manifest());
        offered.insert(image.number.to_string(), image.manifest());
        self.server.reference(&image.reference)
    }
}

fn answer(request: &Request, offered: &Offered, count: &AtomicU64) -> Answer {
    let name = request.path.rsplit('/').next().unwrap_or_default();
    let Some(bytes) = offered.get(name) else { return Answer::new(404, "") };
    if request.path.contains("/manifests/") {
        let answer = Answer::ok(bytes.clone()).header("content-type", MANIFEST);
        return answer.header("docker-content-digest", format!("sha256:{}", digest(bytes)));
    }
    let from = request.from();
    let answer = match from {
        0 => Answer::ok(bytes.clone()),
        _ => Answer::new(206, &bytes[from..])
            .header("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
    };
    // What has come until then is kept, and what it was is found out when the rest is there.
    match count.fetch_add(1, Ordering::Relaxed) % 3 {
        0 if from == 0 => answer.ending(End::CutAfter(bytes.len() / 2)),
        _ => answer,
    }
}
