//! `timestamptz` as [`UtcMicros`]: to the microsecond, without a calendar library between.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};
use windlass_core::time::UtcMicros;

/// Microseconds from 1970-01-01 to 2000-01-01 UTC, where PostgreSQL's binary format counts from.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// Object ids of `timestamptz` and of its array type (pg_type.dat): fixed for all servers. By name the driver would have
/// to ask the server between preparing and executing, and asking replaces the unnamed statement.
const OID: Oid = Oid(1184);
const ARRAY_OID: Oid = Oid(1185);

/// A `timestamptz` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) UtcMicros);

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(OID)
    }
}

impl PgHasArrayType for Timestamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(ARRAY_OID)
    }
}

impl<'q> Encode<'q, Postgres> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros: i64 = self.0.0.checked_sub(EPOCH_2000).ok_or("a time before PostgreSQL's range")?;
        Encode::<Postgres>::encode_by_ref(&micros, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        // Every query of this crate has parameters or none needed in text: results come in binary.
        let bytes: [u8; 8] =
            value.as_bytes()?.try_into().map_err(|_| "a timestamptz that is not 8 bytes long")?;
        // `infinity` and `-infinity` are the ends of the range and stay there.
        Ok(Self(UtcMicros(i64::from_be_bytes(bytes).saturating_add(EPOCH_2000))))
    }
}
