//! A map in the order of its keys.

use alloc::vec::{self, Vec};
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::iter::{Flatten, FusedIterator};
use core::marker::PhantomData;
use core::ops::{Bound, RangeBounds};
use core::slice;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_cbor::{Decode, Encode, Reader, Writer};

/// How many bytes of entries are moved at most to make or close one place.
const MOVED_BYTES_MAX: usize = 4096;

/// A map in the order of its keys, with the methods of the standard library's `BTreeMap`.
#[derive(Clone)]
pub struct SortedMap<K, V> {
    /// No chunk is empty, and keys ascend over all of them.
    chunks: Vec<Vec<(K, V)>>,
    length: usize,
}

/// Where an entry is, or would be.
#[derive(Clone, Copy)]
struct Place {
    chunk: usize,
    at: usize,
}

impl<K, V> SortedMap<K, V> {
    /// How many entries a chunk has at most.
    const CHUNK_MAX: usize = match MOVED_BYTES_MAX.checked_div(size_of::<(K, V)>()) {
        Some(fit @ 8..256) => fit,
        Some(..8) => 8,
        _ => 256,
    };

    /// An empty map. Takes no memory.
    pub const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            length: 0,
        }
    }

    /// In how many chunks the entries lie.
    #[cfg(test)]
    pub(super) const fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no entry.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.length = 0;
    }

    /// The entries, by ascending keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.chunks.iter().flatten())
    }

    /// The entries, by ascending keys, with values that can be changed.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        IterMut(self.chunks.iter_mut().flatten())
    }

    /// The keys, ascending.
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys(self.iter())
    }

    /// The values, by ascending keys.
    pub fn values(&self) -> Values<'_, K, V> {
        Values(self.iter())
    }

    /// The values, by ascending keys, to be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// The keys alone, ascending.
    pub fn into_keys(self) -> impl DoubleEndedIterator<Item = K> {
        self.into_iter().map(|(key, _)| key)
    }

    /// The values alone, by ascending keys.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.into_iter().map(|(_, value)| value)
    }

    /// The entry with the least key.
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        let (key, value) = self.chunks.first()?.first()?;
        Some((key, value))
    }

    /// The entry with the greatest key.
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        let (key, value) = self.chunks.last()?.last()?;
        Some((key, value))
    }

    /// Takes the entry with the least key out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        self.take_out(Place { chunk: 0, at: 0 })
    }

    /// Takes the entry with the greatest key out.
    pub fn pop_last(&mut self) -> Option<(K, V)> {
        let chunk = self.chunks.len().checked_sub(1)?;
        let at = self.chunks.last()?.len().checked_sub(1)?;
        self.take_out(Place { chunk, at })
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.length = 0;
        for chunk in &mut self.chunks {
            chunk.retain_mut(|(key, value)| keep(key, value));
            self.length = self.length.saturating_add(chunk.len());
        }
        self.chunks.retain(|chunk| !chunk.is_empty());
    }

    fn value_at(&self, place: Place) -> Option<&(K, V)> {
        self.chunks.get(place.chunk)?.get(place.at)
    }

    fn value_at_mut(&mut self, place: Place) -> Option<&mut V> {
        let (_, value) = self.chunks.get_mut(place.chunk)?.get_mut(place.at)?;
        Some(value)
    }

    fn take_out(&mut self, place: Place) -> Option<(K, V)> {
        let chunk = self.chunks.get_mut(place.chunk)?;
        if place.at >= chunk.len() {
            return None;
        }
        let entry = chunk.remove(place.at);
        let left = chunk.len();
        self.length = self.length.saturating_sub(1);
        if left == 0 {
            self.chunks.remove(place.chunk);
        } else if left <= Self::CHUNK_MAX / 4 {
            self.join(place.chunk);
            self.join(place.chunk.saturating_sub(1));
        }
        Some(entry)
    }

    /// Makes one of a chunk and the next, where both together are half a chunk at most: what shrinks does not stay scattered.
    fn join(&mut self, chunk: usize) {
        let next = chunk.saturating_add(1);
        let (Some(one), Some(other)) = (self.chunks.get(chunk), self.chunks.get(next)) else {
            return;
        };
        if one.len().saturating_add(other.len()) > Self::CHUNK_MAX / 2 {
            return;
        }
        let mut moved = self.chunks.remove(next);
        if let Some(chunk) = self.chunks.get_mut(chunk) {
            chunk.append(&mut moved);
        }
    }

    /// Puts an entry where [`SortedMap::find`] said that it is missing, and gives its value's place.
    fn put_in(&mut self, place: Place, key: K, value: V) -> Place {
        let mut place = place;
        self.length = self.length.saturating_add(1);
        match self.chunks.get_mut(place.chunk) {
            None => {
                self.chunks.push(Vec::from([(key, value)]));
                return Place {
                    chunk: self.chunks.len().saturating_sub(1),
                    at: 0,
                };
            }
            Some(chunk) if chunk.len() < Self::CHUNK_MAX => chunk.insert(place.at, (key, value)),
            Some(chunk) => {
                // What only ever grows at its end keeps full chunks.
                let at_end = place.at == chunk.len();
                let half = if at_end { chunk.len() } else { chunk.len() / 2 };
                let mut upper = chunk.split_off(half);
                let next = place.chunk.saturating_add(1);
                if place.at > half || at_end {
                    place = Place {
                        chunk: next,
                        at: place.at.saturating_sub(half),
                    };
                    upper.insert(place.at, (key, value));
                } else {
                    chunk.insert(place.at, (key, value));
                }
                self.chunks.insert(next, upper);
            }
        }
        place
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// Where `key` is, or else where it would be put in.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<Place, Place>
    where
        K: Borrow<Q>,
    {
        // The last chunk whose first key is not greater.
        let behind = self
            .chunks
            .partition_point(|chunk| chunk.first().is_some_and(|(first, _)| first.borrow() <= key));
        let chunk = behind.saturating_sub(1);
        let entries = self.chunks.get(chunk).map_or(&[][..], Vec::as_slice);
        match entries.binary_search_by(|(other, _)| other.borrow().cmp(key)) {
            Ok(at) => Ok(Place { chunk, at }),
            Err(at) => Err(Place { chunk, at }),
        }
    }

    /// The value of `key`.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (_, value) = self.value_at(self.find(key).ok()?)?;
        Some(value)
    }

    /// The value of `key`, and the key as it was put in.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (key, value) = self.value_at(self.find(key).ok()?)?;
        Some((key, value))
    }

    /// The value of `key`, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key).ok()?;
        self.value_at_mut(place)
    }

    /// Whether `key` has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Gives `key` a value, and gives the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(place) => self.value_at_mut(place).map(|held| core::mem::replace(held, value)),
            Err(place) => {
                self.put_in(place, key, value);
                None
            }
        }
    }

    /// Takes the value of `key` out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key).ok()?;
        self.take_out(place).map(|(_, value)| value)
    }

    /// The place of `key`, taken or free.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        let place = self.find(&key);
        Entry { map: self, key, place }
    }

    /// The entries whose keys are in `range`, ascending.
    pub fn range<'a, Q: Ord + ?Sized>(
        &'a self,
        range: impl RangeBounds<Q>,
    ) -> impl DoubleEndedIterator<Item = (&'a K, &'a V)>
    where
        K: Borrow<Q> + 'a,
        V: 'a,
    {
        let from = match range.start_bound() {
            Bound::Unbounded => Place { chunk: 0, at: 0 },
            Bound::Included(key) => self.find(key).unwrap_or_else(|place| place),
            Bound::Excluded(key) => self.find(key).map_or_else(|place| place, Place::next),
        };
        let to = match range.end_bound() {
            Bound::Unbounded => Place {
                chunk: self.chunks.len(),
                at: 0,
            },
            Bound::Included(key) => self.find(key).map_or_else(|place| place, Place::next),
            Bound::Excluded(key) => self.find(key).unwrap_or_else(|place| place),
        };
        let behind = to.chunk.saturating_add(1).min(self.chunks.len());
        let chunks = self.chunks.get(from.chunk..behind).unwrap_or_default();
        let slice = move |(index, chunk): (usize, &'a Vec<(K, V)>)| -> &'a [(K, V)] {
            let start = if index == 0 { from.at } else { 0 };
            let end = if index.saturating_add(from.chunk) == to.chunk {
                to.at
            } else {
                chunk.len()
            };
            chunk.get(start..end).unwrap_or_default()
        };
        let slices = chunks.iter().enumerate().map(slice);
        slices.flatten().map(|(key, value)| (key, value))
    }

    /// Takes all entries of `other`.
    pub fn append(&mut self, other: &mut Self) {
        self.extend(core::mem::take(other));
    }
}

impl Place {
    fn next(self) -> Self {
        Self {
            chunk: self.chunk,
            at: self.at.saturating_add(1),
        }
    }
}

/// The place of a key in a map, taken or free.
pub struct Entry<'a, K, V> {
    map: &'a mut SortedMap<K, V>,
    key: K,
    place: Result<Place, Place>,
}

impl<'a, K: Ord, V> Entry<'a, K, V> {
    /// The key's value; where it has none, that of `make`, from now on.
    #[allow(clippy::unwrap_used, reason = "the place was found, or made, in this turn")]
    pub fn or_insert_with(self, make: impl FnOnce() -> V) -> &'a mut V {
        let place = match self.place {
            Ok(place) => place,
            Err(place) => self.map.put_in(place, self.key, make()),
        };
        self.map.value_at_mut(place).unwrap()
    }

    /// The key's value; where it has none, `value`, from now on.
    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }

    /// The key's value; where it has none, the default of its type, from now on.
    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }

    /// Changes the value, where there is one.
    #[must_use]
    pub fn and_modify(self, change: impl FnOnce(&mut V)) -> Self {
        if let Ok(place) = self.place
            && let Some(value) = self.map.value_at_mut(place)
        {
            change(value);
        }
        self
    }
}

/// The entries of a map. See [`SortedMap::iter`].
pub struct Iter<'a, K, V>(Flatten<slice::Iter<'a, Vec<(K, V)>>>);

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (key, value))
    }
}

impl<K, V> FusedIterator for Iter<'_, K, V> {}

/// The entries of a map, with values that can be changed. See [`SortedMap::iter_mut`].
pub struct IterMut<'a, K, V>(Flatten<slice::IterMut<'a, Vec<(K, V)>>>);

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (&*key, value))
    }
}

impl<K, V> DoubleEndedIterator for IterMut<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (&*key, value))
    }
}

/// The keys of a map. See [`SortedMap::keys`].
pub struct Keys<'a, K, V>(Iter<'a, K, V>);

impl<K, V> Clone for Keys<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<'a, K, V> Iterator for Keys<'a, K, V> {
    type Item = &'a K;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, _)| key)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, V> DoubleEndedIterator for Keys<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, _)| key)
    }
}

/// The values of a map. See [`SortedMap::values`].
pub struct Values<'a, K, V>(Iter<'a, K, V>);

impl<K, V> Clone for Values<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<'a, K, V> Iterator for Values<'a, K, V> {
    type Item = &'a V;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(_, value)| value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, V> DoubleEndedIterator for Values<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(_, value)| value)
    }
}

/// The entries of a map that is used up.
pub struct IntoIter<K, V>(Flatten<vec::IntoIter<Vec<(K, V)>>>);

impl<K, V> Iterator for IntoIter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, V> DoubleEndedIterator for IntoIter<K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back()
    }
}

impl<K, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;

    fn into_iter(self) -> IntoIter<K, V> {
        IntoIter(self.chunks.into_iter().flatten())
    }
}

impl<'a, K, V> IntoIterator for &'a SortedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut SortedMap<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> IterMut<'a, K, V> {
        self.iter_mut()
    }
}

impl<K: Ord, V> Extend<(K, V)> for SortedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for SortedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

/// For tests: it panics where there is no such key, which is nothing for what runs in wasm.
#[cfg(not(target_arch = "wasm32"))]
impl<K: Borrow<Q> + Ord, Q: Ord + ?Sized, V> core::ops::Index<&Q> for SortedMap<K, V> {
    type Output = V;

    #[allow(clippy::expect_used, reason = "an index is expected to be there")]
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("no entry for the key")
    }
}

// Two maps are the same where their entries are, however these lie in chunks.
impl<K: PartialEq, V: PartialEq> PartialEq for SortedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for SortedMap<K, V> {}

impl<K: PartialOrd, V: PartialOrd> PartialOrd for SortedMap<K, V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.iter().partial_cmp(other.iter())
    }
}

impl<K: Ord, V: Ord> Ord for SortedMap<K, V> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl<K: Hash, V: Hash> Hash for SortedMap<K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.length.hash(state);
        self.iter().for_each(|entry| entry.hash(state));
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SortedMap<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Serialize, V: Serialize> Serialize for SortedMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.length))?;
        for (key, value) in self {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for SortedMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<K: Encode, V: Encode> Encode for SortedMap<K, V> {
    fn encode(&self, writer: &mut Writer) {
        writer.map(self.length);
        for (key, value) in self {
            key.encode(writer);
            value.encode(writer);
        }
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K: Decode + Ord, V: Decode> Decode for SortedMap<K, V> {
    fn blank() -> Self {
        Self::new()
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        reader.each_entry(&mut |reader| {
            let (mut key, mut value) = (K::blank(), V::blank());
            key.decode(reader);
            value.decode(reader);
            self.insert(key, value);
        });
    }
}

struct Entries<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
    type Value = SortedMap<K, V>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut map = SortedMap::new();
        while let Some((key, value)) = access.next_entry()? {
            map.insert(key, value);
        }
        Ok(map)
    }
}

#[cfg(feature = "schema")]
impl<K: schemars::JsonSchema + Ord, V: schemars::JsonSchema> schemars::JsonSchema for SortedMap<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> alloc::borrow::Cow<'static, str> {
        alloc::collections::BTreeMap::<K, V>::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        alloc::collections::BTreeMap::<K, V>::json_schema(generator)
    }
}
