//! The ConfigMaps and Secrets of all sources: of each name the one that counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::set::{Origin, Problem};
use crate::manifest::{Object, ObjectId};
use crate::order;

/// What files say under one name: the first counts, the others wait for it. In order of their coming.
type Claims = Vec<(Origin, Arc<Object>)>;

/// By name; a name that no file has is not there.
#[derive(Debug, Default)]
pub struct Objects(BTreeMap<ObjectId, Claims>);

impl Objects {
    pub fn get(&self, id: &ObjectId) -> Option<&Arc<Object>> {
        self.0.get(id)?.first().map(|(_, object)| object)
    }

    /// Whether any of them stands in this file.
    pub fn has_any_of(&self, origin: &Origin) -> bool {
        self.0.values().flatten().any(|(claimant, _)| claimant == origin)
    }

    /// Makes `objects` what the file holds, instead of what it held before. Names those of which something else counts now.
    pub(super) fn file_read(&mut self, origin: &Origin, objects: Vec<Arc<Object>>) -> Vec<ObjectId> {
        let held = self.0.iter().filter(|(_, claims)| claims.iter().any(|(claimant, _)| claimant == origin));
        let mut touched: Vec<ObjectId> = held.map(|(id, _)| id.clone()).collect();
        touched.extend(objects.iter().map(|object| object.id.clone()));
        order::sort(&mut touched);
        touched.dedup();
        let mut new = order::map(objects.into_iter().rev().map(|object| (object.id.clone(), object)));
        touched.retain(|id| self.claim(id, origin, new.remove(id)));
        touched
    }

    /// Says whether something else counts now.
    fn claim(&mut self, id: &ObjectId, origin: &Origin, new: Option<Arc<Object>>) -> bool {
        let before = self.get(id).map(Arc::clone);
        let claims = self.0.entry(id.clone()).or_default();
        let at = claims.iter().position(|(claimant, _)| claimant == origin);
        match (at, new) {
            (Some(at), Some(object)) => claims[at].1 = object,
            (Some(at), None) => drop(claims.remove(at)),
            (None, Some(object)) => claims.push((origin.clone(), object)),
            (None, None) => {}
        }
        if claims.is_empty() {
            self.0.remove(id);
        }
        self.get(id) != before.as_ref()
    }

    /// Files that hold an object of a name that another one has; `which` is asked about the one that counts and the other.
    pub(super) fn duplicates(&self, which: impl Fn(&Object, &Object) -> bool) -> Vec<Problem> {
        let mut duplicates = Vec::new();
        for (id, claims) in &self.0 {
            let Some(((kept, first), others)) = claims.split_first() else { continue };
            for (origin, _) in others.iter().filter(|(_, other)| which(first, other)) {
                let (id, origin, kept) = (id.clone(), origin.clone(), kept.clone());
                duplicates.push(Problem::DuplicateObject { id, origin, kept });
            }
        }
        duplicates
    }
}
