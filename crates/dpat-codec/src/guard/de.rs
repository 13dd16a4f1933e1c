//! The guard around a deserializer.
//!
//! Scalars and text go straight through: nothing can nest in them. Whatever can hold other values gets its visitor
//! wrapped, which goes down a level and wraps what it hands on.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{BREACH, Guard};

/// Something of serde's that reads under a guard: a seed, deserializer, visitor or access.
///
/// `COUNT` says of visitors and accesses whether the elements are to be counted: those of lists and maps are, those of
/// tuples and structs are fixed by the type.
pub(super) struct Guarded<'g, T, const COUNT: bool = false> {
    inner: T,
    guard: &'g Guard,
    left: u32,
}

impl<'g, T> Guarded<'g, T> {
    /// The seed of the outermost value.
    pub(super) fn outermost(seed: T, guard: &'g Guard) -> Self {
        Guarded {
            inner: seed,
            guard,
            left: guard.depth_max,
        }
    }
}

impl<'g, T, const COUNT: bool> Guarded<'g, T, COUNT> {
    /// Puts another of serde's under the same guard, at the same level.
    #[inline]
    fn with<U>(&self, inner: U) -> Guarded<'g, U> {
        Guarded {
            inner,
            guard: self.guard,
            left: self.left,
        }
    }

    /// As [`with`](Self::with); the elements count as those here do.
    #[inline]
    fn with_count<U, const C: bool>(&self, inner: U) -> Guarded<'g, U, C> {
        Guarded {
            inner,
            guard: self.guard,
            left: self.left,
        }
    }

    /// Goes down a level.
    #[inline]
    fn enter<E: Error>(self) -> Result<Self, E> {
        match self.guard.enter(self.left) {
            Some(left) => Ok(Self { left, ..self }),
            None => Err(E::custom(BREACH)),
        }
    }

    #[inline]
    fn count<E: Error>(&self) -> Result<(), E> {
        if COUNT && !self.guard.count() {
            return Err(E::custom(BREACH));
        }
        Ok(())
    }

    #[inline]
    fn hint(&self, claimed: Option<usize>) -> Option<usize> {
        if COUNT {
            claimed.map(|claimed| self.guard.reserve(claimed))
        } else {
            claimed
        }
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Guarded<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.inner.deserialize(deserializer)
    }
}

macro_rules! pass_through {
    ($($method:ident => $inner:ident),* $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$inner(visitor)
        }
    )*};
}

macro_rules! wrap_visitor {
    ($($method:ident ($($arg:ident: $type:ty),*) counts $count:literal),* $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(
            self,
            $($arg: $type,)*
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            let visitor = self.with_count::<V, $count>(visitor);
            self.inner.$method($($arg,)* visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guarded<'_, D> {
    type Error = D::Error;

    pass_through! {
        deserialize_bool => deserialize_bool,
        deserialize_i8 => deserialize_i8,
        deserialize_i16 => deserialize_i16,
        deserialize_i32 => deserialize_i32,
        deserialize_i64 => deserialize_i64,
        deserialize_i128 => deserialize_i128,
        deserialize_u8 => deserialize_u8,
        deserialize_u16 => deserialize_u16,
        deserialize_u32 => deserialize_u32,
        deserialize_u64 => deserialize_u64,
        deserialize_u128 => deserialize_u128,
        deserialize_f32 => deserialize_f32,
        deserialize_f64 => deserialize_f64,
        deserialize_char => deserialize_char,
        deserialize_str => deserialize_str,
        // Borrowed first: asked for an owned string, bincode allocates the claimed length before it looks for the bytes.
        deserialize_string => deserialize_str,
        deserialize_unit => deserialize_unit,
        deserialize_identifier => deserialize_identifier,
        deserialize_ignored_any => deserialize_ignored_any,
    }

    wrap_visitor! {
        deserialize_any() counts true,
        deserialize_option() counts false,
        deserialize_newtype_struct(name: &'static str) counts false,
        deserialize_seq() counts true,
        deserialize_tuple(len: usize) counts false,
        deserialize_tuple_struct(name: &'static str, len: usize) counts false,
        deserialize_map() counts true,
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) counts false,
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) counts false,
        // JSON reads a list of numbers as bytes.
        deserialize_bytes() counts true,
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        // As with strings.
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($type:ty)),* $(,)?) => {$(
        #[inline]
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>, const COUNT: bool> Visitor<'de> for Guarded<'_, V, COUNT> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool(bool),
        visit_i8(i8),
        visit_i16(i16),
        visit_i32(i32),
        visit_i64(i64),
        visit_i128(i128),
        visit_u8(u8),
        visit_u16(u16),
        visit_u32(u32),
        visit_u64(u64),
        visit_u128(u128),
        visit_f32(f32),
        visit_f64(f64),
        visit_char(char),
        visit_str(&str),
        visit_borrowed_str(&'de str),
        visit_string(String),
        visit_bytes(&[u8]),
        visit_borrowed_bytes(&'de [u8]),
        visit_byte_buf(Vec<u8>),
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let here = self.enter()?;
        let deserializer = here.with(deserializer);
        here.inner.visit_some(deserializer)
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        let here = self.enter()?;
        let deserializer = here.with(deserializer);
        here.inner.visit_newtype_struct(deserializer)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        let here = self.enter()?;
        let seq = here.with_count::<A, COUNT>(seq);
        here.inner.visit_seq(seq)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let here = self.enter()?;
        let map = here.with_count::<A, COUNT>(map);
        here.inner.visit_map(map)
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        let here = self.enter()?;
        let data = here.with(data);
        here.inner.visit_enum(data)
    }
}

impl<'de, A: SeqAccess<'de>, const COUNT: bool> SeqAccess<'de> for Guarded<'_, A, COUNT> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let seed = self.with(seed);
        let element = self.inner.next_element_seed(seed)?;
        if element.is_some() {
            self.count()?;
        }
        Ok(element)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>, const COUNT: bool> MapAccess<'de> for Guarded<'_, A, COUNT> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let seed = self.with(seed);
        let key = self.inner.next_key_seed(seed)?;
        if key.is_some() {
            self.count()?;
        }
        Ok(key)
    }

    #[inline]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        let seed = self.with(seed);
        self.inner.next_value_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint(self.inner.size_hint())
    }
}

impl<'de, 'g, A: EnumAccess<'de>> EnumAccess<'de> for Guarded<'g, A> {
    type Error = A::Error;
    type Variant = Guarded<'g, A::Variant>;

    #[inline]
    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self::Variant), A::Error> {
        let Self { inner, guard, left } = self;
        let seed = Guarded {
            inner: seed,
            guard,
            left,
        };
        let (value, inner) = inner.variant_seed(seed)?;
        Ok((value, Guarded { inner, guard, left }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Guarded<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        let seed = self.with(seed);
        self.inner.newtype_variant_seed(seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}
