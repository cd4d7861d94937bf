//! What a value of a Parquet column becomes in JSON.
//!
//! | column | JSON |
//! |---|---|
//! | numbers, booleans, text | themselves; a decimal is a number |
//! | timestamp, date, time of day | RFC 3339 text; a timestamp without a time zone is taken as UTC |
//! | list | array |
//! | struct, map | object, without the fields that are null |
//! | binary | text, if it is UTF-8 |
//! | null, NaN | null: many programs write NaN for a number that is not there |

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, MapArray, StructArray};
use arrow_schema::{DataType, TimeUnit};
use jiff::civil::{Date, Time};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Number, Value as Json};

/// Whether values of a type can become JSON; else, what they are.
pub(super) fn check(data_type: &DataType) -> Result<(), String> {
    use DataType as T;
    match data_type {
        T::Duration(_) | T::Interval(_) | T::Union(..) | T::RunEndEncoded(..) | T::ListView(_) | T::LargeListView(_) => {
            Err(data_type.to_string())
        }
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) | T::Map(item, _) => check(item.data_type()),
        T::Struct(fields) => fields.iter().try_for_each(|field| check(field.data_type())),
        T::Dictionary(_, values) => check(values),
        _ => Ok(()),
    }
}

/// A value of a column of a type that [`check`] lets through. The error reads as the end of a sentence about the field.
pub(super) fn value(column: &dyn Array, row: usize) -> Result<Json, String> {
    use DataType as T;
    if column.is_null(row) {
        return Ok(Json::Null);
    }
    match column.data_type() {
        T::Null => Ok(Json::Null),
        T::Boolean => Ok(Json::Bool(column.as_boolean().value(row))),
        T::Int8 => Ok(whole::<Int8Type>(column, row)),
        T::Int16 => Ok(whole::<Int16Type>(column, row)),
        T::Int32 => Ok(whole::<Int32Type>(column, row)),
        T::Int64 => Ok(whole::<Int64Type>(column, row)),
        T::UInt8 => Ok(whole::<UInt8Type>(column, row)),
        T::UInt16 => Ok(whole::<UInt16Type>(column, row)),
        T::UInt32 => Ok(whole::<UInt32Type>(column, row)),
        T::UInt64 => Ok(whole::<UInt64Type>(column, row)),
        T::Float16 => number(f64::from(native::<Float16Type>(column, row))),
        T::Float32 => number(f64::from(native::<Float32Type>(column, row))),
        T::Float64 => number(native::<Float64Type>(column, row)),
        T::Decimal32(precision, scale) => decimal::<Decimal32Type>(column, row, *precision, *scale),
        T::Decimal64(precision, scale) => decimal::<Decimal64Type>(column, row, *precision, *scale),
        T::Decimal128(precision, scale) => decimal::<Decimal128Type>(column, row, *precision, *scale),
        T::Decimal256(precision, scale) => decimal::<Decimal256Type>(column, row, *precision, *scale),
        T::Utf8 => Ok(column.as_string::<i32>().value(row).into()),
        T::LargeUtf8 => Ok(column.as_string::<i64>().value(row).into()),
        T::Utf8View => Ok(column.as_string_view().value(row).into()),
        T::Binary => text(column.as_binary::<i32>().value(row)),
        T::LargeBinary => text(column.as_binary::<i64>().value(row)),
        T::BinaryView => text(column.as_binary_view().value(row)),
        T::FixedSizeBinary(_) => text(column.as_fixed_size_binary().value(row)),
        T::Timestamp(unit, _) => timestamp(column, row, *unit),
        T::Date32 => date(i64::from(native::<Date32Type>(column, row))),
        T::Date64 => date(native::<Date64Type>(column, row).div_euclid(86_400_000)),
        T::Time32(TimeUnit::Second) => time(i64::from(native::<Time32SecondType>(column, row)), 1_000_000_000),
        T::Time32(_) => time(i64::from(native::<Time32MillisecondType>(column, row)), 1_000_000),
        T::Time64(TimeUnit::Microsecond) => time(native::<Time64MicrosecondType>(column, row), 1_000),
        T::Time64(_) => time(native::<Time64NanosecondType>(column, row), 1),
        T::List(_) => list(column.as_list::<i32>().value(row).as_ref()),
        T::LargeList(_) => list(column.as_list::<i64>().value(row).as_ref()),
        T::FixedSizeList(..) => list(column.as_fixed_size_list().value(row).as_ref()),
        T::Struct(_) => object(column.as_struct(), row),
        T::Map(..) => map(column.as_map(), row),
        T::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let key = value(dictionary.keys(), row)?.as_u64().and_then(|key| usize::try_from(key).ok());
            value(dictionary.values().as_ref(), key.ok_or("holds a word that its dictionary lacks")?)
        }
        other => Err(format!("holds {other}, which has no place in a document")),
    }
}

fn native<T: ArrowPrimitiveType>(column: &dyn Array, row: usize) -> T::Native {
    column.as_primitive::<T>().value(row)
}

fn whole<T: ArrowPrimitiveType>(column: &dyn Array, row: usize) -> Json
where
    Number: From<T::Native>,
{
    Json::Number(Number::from(native::<T>(column, row)))
}

fn number(number: f64) -> Result<Json, String> {
    if number.is_nan() {
        return Ok(Json::Null);
    }
    Number::from_f64(number).map(Json::Number).ok_or_else(|| format!("holds {number}, which is not a finite number"))
}

fn decimal<T: DecimalType>(column: &dyn Array, row: usize, precision: u8, scale: i8) -> Result<Json, String> {
    let text = T::format_decimal(native::<T>(column, row), precision, scale);
    serde_json::from_str(&text).map(Json::Number).map_err(|_| format!("holds {text}, which is not a number"))
}

fn text(bytes: &[u8]) -> Result<Json, String> {
    std::str::from_utf8(bytes).map(Json::from).map_err(|_| "holds bytes that are not UTF-8 text: write them as text".to_owned())
}

fn timestamp(column: &dyn Array, row: usize, unit: TimeUnit) -> Result<Json, String> {
    let timestamp = match unit {
        TimeUnit::Second => Timestamp::from_second(native::<TimestampSecondType>(column, row)),
        TimeUnit::Millisecond => Timestamp::from_millisecond(native::<TimestampMillisecondType>(column, row)),
        TimeUnit::Microsecond => Timestamp::from_microsecond(native::<TimestampMicrosecondType>(column, row)),
        TimeUnit::Nanosecond => Timestamp::from_nanosecond(i128::from(native::<TimestampNanosecondType>(column, row))),
    };
    timestamp.map(|timestamp| timestamp.to_string().into()).map_err(|_| "holds a time before the year -9999 or after 9999".to_owned())
}

fn date(days: i64) -> Result<Json, String> {
    let date = Date::new(1970, 1, 1).and_then(|epoch| epoch.checked_add(SignedDuration::from_hours(days.saturating_mul(24))));
    date.map(|date| date.to_string().into()).map_err(|_| "holds a date before the year -9999 or after 9999".to_owned())
}

fn time(units: i64, unit_ns: i64) -> Result<Json, String> {
    let time = Time::midnight().checked_add(SignedDuration::from_nanos(units.saturating_mul(unit_ns)));
    time.map(|time| time.to_string().into()).map_err(|_| "holds a time of day over 24 hours".to_owned())
}

fn list(items: &dyn Array) -> Result<Json, String> {
    (0..items.len()).map(|row| value(items, row)).collect::<Result<_, _>>().map(Json::Array)
}

fn object(column: &StructArray, row: usize) -> Result<Json, String> {
    let mut fields = Map::new();
    for (name, inner) in column.column_names().into_iter().zip(column.columns()) {
        let value = value(inner.as_ref(), row)?;
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    }
    Ok(Json::Object(fields))
}

fn map(column: &MapArray, row: usize) -> Result<Json, String> {
    let entries = column.value(row);
    let mut fields = Map::new();
    for entry in 0..entries.len() {
        let key = match value(entries.column(0).as_ref(), entry)? {
            Json::String(key) => key,
            other => other.to_string(),
        };
        let value = value(entries.column(1).as_ref(), entry)?;
        if !value.is_null() {
            fields.insert(key, value);
        }
    }
    Ok(Json::Object(fields))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{Int32Builder, MapBuilder, StringBuilder};
    use arrow_array::types::Int32Type as I32;
    use arrow_array::{
        BinaryArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, NullArray, StringArray, StringViewArray,
        Time64MicrosecondArray, TimestampMillisecondArray, UInt64Array,
    };
    use serde_json::json;

    use super::*;

    fn all(column: &dyn Array) -> Vec<Json> {
        check(column.data_type()).unwrap();
        (0..column.len()).map(|row| value(column, row).unwrap()).collect()
    }

    #[test]
    fn scalars() {
        assert_eq!(all(&UInt64Array::from(vec![Some(u64::MAX), None])), [json!(u64::MAX), json!(null)]);
        assert_eq!(all(&Float64Array::from(vec![1.5, f64::NAN])), [json!(1.5), json!(null)]);
        assert!(value(&Float64Array::from(vec![f64::INFINITY]), 0).unwrap_err().contains("finite"));
        assert_eq!(all(&StringViewArray::from(vec!["a", "b"])), ["a", "b"]);
        assert_eq!(all(&BinaryArray::from(vec!["ü".as_bytes()])), ["ü"]);
        assert!(value(&BinaryArray::from(vec![&b"\xff"[..]]), 0).unwrap_err().contains("UTF-8"));
        assert_eq!(all(&NullArray::new(1)), [json!(null)]);
        let decimals = Decimal128Array::from(vec![-1_250, 5]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(all(&decimals), [json!(-12.5), json!(0.05)]);
    }

    #[test]
    fn times() {
        let zoned = TimestampMillisecondArray::from(vec![1_762_000_000_123, -1]).with_timezone("Europe/Berlin");
        assert_eq!(all(&zoned), ["2025-11-01T12:26:40.123Z", "1969-12-31T23:59:59.999Z"]);
        assert_eq!(all(&Date32Array::from(vec![0, -1, 20_000])), ["1970-01-01", "1969-12-31", "2024-10-04"]);
        assert_eq!(all(&Time64MicrosecondArray::from(vec![3_600_000_001])), ["01:00:00.000001"]);
        assert!(
            value(&TimestampMillisecondArray::from(vec![i64::MAX]), 0).is_err() && value(&Date32Array::from(vec![i32::MAX]), 0).is_err()
        );
    }

    #[test]
    fn nested() {
        let words: DictionaryArray<I32> = vec![Some("a"), None, Some("b"), Some("a")].into_iter().collect();
        assert_eq!(all(&words), [json!("a"), json!(null), json!("b"), json!("a")]);
        let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        maps.keys().append_value("years");
        maps.values().append_value(3);
        maps.append(true).unwrap();
        assert_eq!(all(&maps.finish()), [json!({"years": 3})]);
        let inner = StructArray::from(vec![(
            Arc::new(arrow_schema::Field::new("b", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![Some("x"), None])) as arrow_array::ArrayRef,
        )]);
        let outer = StructArray::from(vec![(
            Arc::new(arrow_schema::Field::new("a", inner.data_type().clone(), true)),
            Arc::new(inner) as arrow_array::ArrayRef,
        )]);
        assert_eq!(all(&outer), [json!({"a": {"b": "x"}}), json!({"a": {}})]);
        assert!(check(&DataType::List(Arc::new(arrow_schema::Field::new("item", DataType::Duration(TimeUnit::Second), true)))).is_err());
    }
}
