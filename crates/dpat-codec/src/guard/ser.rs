//! The guard around a value that is written: the same levels and elements as in reading.

use std::fmt::Display;

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{BREACH, Guard};

/// A value, serializer or compound that is written under a guard.
pub(super) struct Watched<'g, T> {
    inner: T,
    guard: &'g Guard,
    left: u32,
}

impl<'g, 'a, T: ?Sized> Watched<'g, &'a T> {
    /// The outermost value.
    pub(super) fn outermost(value: &'a T, guard: &'g Guard) -> Self {
        Watched {
            inner: value,
            guard,
            left: guard.depth_max,
        }
    }
}

impl<'g, T> Watched<'g, T> {
    #[inline]
    fn with<U>(&self, inner: U) -> Watched<'g, U> {
        Watched {
            inner,
            guard: self.guard,
            left: self.left,
        }
    }

    #[inline]
    fn enter<E: Error>(self) -> Result<Self, E> {
        match self.guard.enter(self.left) {
            Some(left) => Ok(Self { left, ..self }),
            None => Err(E::custom(BREACH)),
        }
    }

    #[inline]
    fn count<E: Error>(&self) -> Result<(), E> {
        if self.guard.count() {
            Ok(())
        } else {
            Err(E::custom(BREACH))
        }
    }

    /// Replaces what is inside by what `make` makes of it.
    #[inline]
    fn turn<U, E>(self, make: impl FnOnce(T) -> Result<U, E>) -> Result<Watched<'g, U>, E> {
        let Self { inner, guard, left } = self;
        Ok(Watched {
            inner: make(inner)?,
            guard,
            left,
        })
    }
}

impl<T: Serialize + ?Sized> Serialize for Watched<'_, &T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(self.with(serializer))
    }
}

macro_rules! pass_through {
    ($($method:ident($type:ty)),* $(,)?) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

impl<'g, S: Serializer> Serializer for Watched<'g, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Watched<'g, S::SerializeSeq>;
    type SerializeTuple = Watched<'g, S::SerializeTuple>;
    type SerializeTupleStruct = Watched<'g, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Watched<'g, S::SerializeTupleVariant>;
    type SerializeMap = Watched<'g, S::SerializeMap>;
    type SerializeStruct = Watched<'g, S::SerializeStruct>;
    type SerializeStructVariant = Watched<'g, S::SerializeStructVariant>;

    pass_through! {
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_f32(f32),
        serialize_f64(f64),
        serialize_char(char),
        serialize_str(&str),
        serialize_bytes(&[u8]),
        serialize_unit_struct(&'static str),
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let here = self.enter()?;
        let value = here.with(value);
        here.inner.serialize_some(&value)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let here = self.enter()?;
        let value = here.with(value);
        here.inner.serialize_newtype_struct(name, &value)
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        let here = self.enter()?;
        here.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let here = self.enter()?;
        let value = here.with(value);
        here.inner
            .serialize_newtype_variant(name, index, variant, &value)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.enter()?.turn(|inner| inner.serialize_seq(len))
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.enter()?.turn(|inner| inner.serialize_tuple(len))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.enter()?
            .turn(|inner| inner.serialize_tuple_struct(name, len))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        // Two levels in reading: the enum, and the fields of the variant.
        self.enter()?
            .enter()?
            .turn(|inner| inner.serialize_tuple_variant(name, index, variant, len))
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.enter()?.turn(|inner| inner.serialize_map(len))
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.enter()?
            .turn(|inner| inner.serialize_struct(name, len))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.enter()?
            .enter()?
            .turn(|inner| inner.serialize_struct_variant(name, index, variant, len))
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

impl<C: SerializeSeq> SerializeSeq for Watched<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.count()?;
        let value = self.with(value);
        self.inner.serialize_element(&value)
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

impl<C: SerializeMap> SerializeMap for Watched<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.count()?;
        let key = self.with(key);
        self.inner.serialize_key(&key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let value = self.with(value);
        self.inner.serialize_value(&value)
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

macro_rules! tuples {
    ($($trait:ident, $method:ident);* $(;)?) => {$(
        impl<C: $trait> $trait for Watched<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                let value = self.with(value);
                self.inner.$method(&value)
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

tuples! {
    SerializeTuple, serialize_element;
    SerializeTupleStruct, serialize_field;
    SerializeTupleVariant, serialize_field;
}

macro_rules! structs {
    ($($trait:ident),* $(,)?) => {$(
        impl<C: $trait> $trait for Watched<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                let value = self.with(value);
                self.inner.serialize_field(key, &value)
            }

            #[inline]
            fn skip_field(&mut self, key: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(key)
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

structs!(SerializeStruct, SerializeStructVariant);
