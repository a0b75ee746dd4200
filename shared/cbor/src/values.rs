//! The values that everything else is made of.

use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::string::String;
use core::num::NonZeroU32;

use crate::{Decode, Encode, Reader, Writer};

macro_rules! unsigned {
    ($($kind:ty),*) => {$(
        impl Encode for $kind {
            fn encode(&self, writer: &mut Writer) {
                // A platform's word has 64 bits at most.
                writer.unsigned(*self as u64);
            }
        }

        impl Decode for $kind {
            fn blank() -> Self {
                0
            }

            fn decode(&mut self, reader: &mut Reader<'_>) {
                match Self::try_from(reader.unsigned()) {
                    Ok(number) => *self = number,
                    Err(_) => reader.fault("a smaller number before this"),
                }
            }
        }
    )*};
}

macro_rules! signed {
    ($($kind:ty),*) => {$(
        impl Encode for $kind {
            fn encode(&self, writer: &mut Writer) {
                writer.signed(i64::from(*self));
            }
        }

        impl Decode for $kind {
            fn blank() -> Self {
                0
            }

            fn decode(&mut self, reader: &mut Reader<'_>) {
                match Self::try_from(reader.signed()) {
                    Ok(number) => *self = number,
                    Err(_) => reader.fault("a number nearer to 0 before this"),
                }
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64, usize);
signed!(i8, i16, i32, i64);

impl Encode for NonZeroU32 {
    fn encode(&self, writer: &mut Writer) {
        self.get().encode(writer);
    }
}

impl Decode for NonZeroU32 {
    fn blank() -> Self {
        Self::MIN
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        let mut number = 0;
        u32::decode(&mut number, reader);
        match Self::new(number) {
            Some(number) => *self = number,
            None => reader.fault("a number above 0 before this"),
        }
    }
}

impl Encode for bool {
    fn encode(&self, writer: &mut Writer) {
        writer.bool(*self);
    }

    fn is_absent(&self) -> bool {
        !self
    }
}

impl Decode for bool {
    fn blank() -> Self {
        false
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        *self = reader.bool();
    }
}

impl Encode for f64 {
    fn encode(&self, writer: &mut Writer) {
        writer.float(*self);
    }
}

impl Decode for f64 {
    fn blank() -> Self {
        0.0
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        *self = reader.float();
    }
}

impl Encode for str {
    fn encode(&self, writer: &mut Writer) {
        writer.text(self);
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Encode for String {
    fn encode(&self, writer: &mut Writer) {
        writer.text(self);
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Decode for String {
    fn blank() -> Self {
        Self::new()
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        *self = reader.text().to_owned();
    }
}

impl Encode for Cow<'_, str> {
    fn encode(&self, writer: &mut Writer) {
        writer.text(self);
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Decode for Cow<'static, str> {
    fn blank() -> Self {
        Cow::Borrowed("")
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        *self = Cow::Owned(reader.text().to_owned());
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, writer: &mut Writer) {
        (**self).encode(writer);
    }

    fn is_absent(&self) -> bool {
        (**self).is_absent()
    }
}

impl<T: Encode + ?Sized> Encode for Box<T> {
    fn encode(&self, writer: &mut Writer) {
        (**self).encode(writer);
    }

    fn is_absent(&self) -> bool {
        (**self).is_absent()
    }
}

/// What lies within itself does so in boxes or lists.
impl<T: Decode> Decode for Box<T> {
    fn blank() -> Self {
        Self::new(T::blank())
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        if reader.enter() {
            (**self).decode(reader);
            reader.leave();
        }
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Some(value) => value.encode(writer),
            None => writer.null(),
        }
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Decode> Decode for Option<T> {
    fn blank() -> Self {
        None
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        if !reader.null() {
            self.insert(T::blank()).decode(reader);
        }
    }
}

const RESULT: &[u8] = b"\xa1\x62Ok\xa1\x63Err";

impl<T: Encode, E: Encode> Encode for Result<T, E> {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Ok(value) => {
                writer.raw(b"\xa1\x62Ok");
                value.encode(writer);
            }
            Err(error) => {
                writer.raw(b"\xa1\x63Err");
                error.encode(writer);
            }
        }
    }
}

impl<T: Decode, E: Decode> Decode for Result<T, E> {
    fn blank() -> Self {
        Err(E::blank())
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        match reader.variant(RESULT) {
            0 => {
                let mut value = T::blank();
                value.decode(reader);
                *self = Ok(value);
            }
            1 => {
                let mut error = E::blank();
                error.decode(reader);
                *self = Err(error);
            }
            _ => {}
        }
    }
}
