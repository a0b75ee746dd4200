//! Lists, maps and tuples. No room is made for what a list claims to hold: it grows as its items come.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::{Decode, Encode, Reader, Writer};

impl<T: Encode> Encode for [T] {
    fn encode(&self, writer: &mut Writer) {
        writer.array(self.len());
        for item in self {
            item.encode(writer);
        }
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, writer: &mut Writer) {
        self.as_slice().encode(writer);
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn blank() -> Self {
        Self::new()
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        reader.each_item(&mut |reader| {
            self.push(T::blank());
            if let Some(item) = self.last_mut() {
                item.decode(reader);
            }
        });
    }
}

impl<T: Encode> Encode for VecDeque<T> {
    fn encode(&self, writer: &mut Writer) {
        writer.array(self.len());
        for item in self {
            item.encode(writer);
        }
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Decode> Decode for VecDeque<T> {
    fn blank() -> Self {
        Self::new()
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        reader.each_item(&mut |reader| {
            let mut item = T::blank();
            item.decode(reader);
            self.push_back(item);
        });
    }
}

impl<T: Encode> Encode for BTreeSet<T> {
    fn encode(&self, writer: &mut Writer) {
        writer.array(self.len());
        for item in self {
            item.encode(writer);
        }
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Decode + Ord> Decode for BTreeSet<T> {
    fn blank() -> Self {
        Self::new()
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        reader.each_item(&mut |reader| {
            let mut item = T::blank();
            item.decode(reader);
            self.insert(item);
        });
    }
}

impl<K: Encode, V: Encode> Encode for BTreeMap<K, V> {
    fn encode(&self, writer: &mut Writer) {
        writer.map(self.len());
        for (key, value) in self {
            key.encode(writer);
            value.encode(writer);
        }
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K: Decode + Ord, V: Decode> Decode for BTreeMap<K, V> {
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

impl<T: Encode, const N: usize> Encode for [T; N] {
    fn encode(&self, writer: &mut Writer) {
        self.as_slice().encode(writer);
    }
}

impl<T: Decode, const N: usize> Decode for [T; N] {
    fn blank() -> Self {
        core::array::from_fn(|_| T::blank())
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        if reader.array() != N as u64 {
            reader.fault("a list of another length");
        }
        for item in self {
            item.decode(reader);
        }
    }
}

impl Encode for () {
    fn encode(&self, writer: &mut Writer) {
        writer.array(0);
    }
}

impl Decode for () {
    fn blank() -> Self {}

    fn decode(&mut self, reader: &mut Reader<'_>) {
        reader.items(&mut []);
    }
}

macro_rules! tuple {
    ($($kind:ident $item:ident),*) => {
        impl<$($kind: Encode),*> Encode for ($($kind,)*) {
            fn encode(&self, writer: &mut Writer) {
                let ($($item,)*) = self;
                writer.items(&[$($item),*]);
            }
        }

        impl<$($kind: Decode),*> Decode for ($($kind,)*) {
            fn blank() -> Self {
                ($($kind::blank(),)*)
            }

            fn decode(&mut self, reader: &mut Reader<'_>) {
                let ($($item,)*) = self;
                reader.items(&mut [$($item),*]);
            }
        }
    };
}

tuple!(A a, B b);
tuple!(A a, B b, C c);
tuple!(A a, B b, C c, D d);
tuple!(A a, B b, C c, D d, E e);
tuple!(A a, B b, C c, D d, E e, F f);
