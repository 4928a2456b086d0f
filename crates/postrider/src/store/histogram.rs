//! A log-linear histogram of durations: exact below 32 ms, then 32 buckets to each power of two.
//!
//! A value is reported as the greatest of its bucket, so never too small and at most 1/32 (3.2 %) too great. Two
//! histograms are merged by adding their counts.

use crate::store::Latency;

const SUB_BITS: u32 = 5;
const SUB: u32 = 1 << SUB_BITS;

/// Counts by bucket, with the exact sum and maximum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Sorted by bucket; no zero counts.
    buckets: Vec<(u32, u64)>,
    sum: u64,
    max: u32,
}

/// The text is no histogram.
#[derive(Debug, thiserror::Error)]
#[error("a stored histogram is damaged")]
pub struct Damaged;

fn bucket_of(value: u32) -> u32 {
    if value < SUB {
        return value;
    }
    let shift = value.ilog2() - SUB_BITS;
    (shift << SUB_BITS) + (value >> shift)
}

/// The greatest value of a bucket.
fn upper(bucket: u32) -> u32 {
    if bucket < SUB {
        return bucket;
    }
    let shift = (bucket >> SUB_BITS) - 1;
    let mantissa = u64::from(bucket - (shift << SUB_BITS));
    u32::try_from(((mantissa + 1) << shift) - 1).unwrap_or(u32::MAX)
}

impl Histogram {
    pub fn add(&mut self, value_ms: u32) {
        self.add_count(bucket_of(value_ms), 1);
        self.sum += u64::from(value_ms);
        self.max = self.max.max(value_ms);
    }

    fn add_count(&mut self, bucket: u32, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |entry| entry.0) {
            Ok(at) => self.buckets[at].1 += count,
            Err(at) => self.buckets.insert(at, (bucket, count)),
        }
    }

    pub fn merge(&mut self, other: &Histogram) {
        for (bucket, count) in &other.buckets {
            self.add_count(*bucket, *count);
        }
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|entry| entry.1).sum()
    }

    /// The value below or at which `share` (0 to 1) of all values lie, by nearest rank.
    pub fn percentile(&self, share: f64) -> u32 {
        let rank = ((share * self.count() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return upper(*bucket).min(self.max);
            }
        }
        self.max
    }

    /// `None` without values.
    pub fn latency(&self) -> Option<Latency> {
        let count = self.count();
        (count > 0).then(|| Latency {
            avg_ms: self.sum as f64 / count as f64,
            p50_ms: self.percentile(0.50),
            p95_ms: self.percentile(0.95),
            p99_ms: self.percentile(0.99),
            max_ms: self.max,
        })
    }

    /// Varints: sum, maximum, then for each bucket the step from the one before and its count.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 3 * self.buckets.len());
        put(&mut out, self.sum);
        put(&mut out, u64::from(self.max));
        let mut last = 0;
        for (bucket, count) in &self.buckets {
            put(&mut out, u64::from(bucket - last));
            put(&mut out, *count);
            last = *bucket;
        }
        out
    }

    /// # Errors
    /// Bytes that [`Histogram::encode`] did not write.
    pub fn decode(mut bytes: &[u8]) -> Result<Histogram, Damaged> {
        if bytes.is_empty() {
            return Ok(Histogram::default());
        }
        let sum = take(&mut bytes)?;
        let max = u32::try_from(take(&mut bytes)?).map_err(|_| Damaged)?;
        let mut buckets = Vec::new();
        let mut last = 0_u32;
        while !bytes.is_empty() {
            let step = u32::try_from(take(&mut bytes)?).map_err(|_| Damaged)?;
            last = last.checked_add(step).ok_or(Damaged)?;
            buckets.push((last, take(&mut bytes)?));
        }
        Ok(Histogram { buckets, sum, max })
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(Damaged)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Damaged)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gaps_up_to_the_greatest_value() {
        let mut next = 0_u64;
        for bucket in 0..=bucket_of(u32::MAX) {
            assert_eq!(bucket_of(u32::try_from(next).unwrap()), bucket);
            assert_eq!(bucket_of(upper(bucket)), bucket);
            next = u64::from(upper(bucket)) + 1;
        }
        assert_eq!(next, 1 << 32);
    }

    fn values() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(prop_oneof![0..50_u32, 0..5_000_u32, any::<u32>()], 1..300)
    }

    proptest! {
        #[test]
        fn a_percentile_is_never_too_small_and_at_most_one_part_in_32_too_great(
            mut all in values(), share in 0.0..=1.0_f64,
        ) {
            let mut histogram = Histogram::default();
            all.iter().for_each(|value| histogram.add(*value));
            all.sort_unstable();
            let rank = ((share * all.len() as f64).ceil() as usize).max(1);
            let exact = f64::from(all[rank - 1]);
            let told = f64::from(histogram.percentile(share));
            prop_assert!(told >= exact && told <= exact * (1.0 + 1.0 / 32.0), "{told} for {exact}");
        }

        #[test]
        fn what_is_stored_and_merged_equals_what_was_added(one in values(), two in values()) {
            let of = |values: &[u32]| {
                let mut histogram = Histogram::default();
                values.iter().for_each(|value| histogram.add(*value));
                Histogram::decode(&histogram.encode()).unwrap()
            };
            let mut merged = of(&one);
            merged.merge(&of(&two));
            prop_assert_eq!(merged, of(&[one, two].concat()));
        }

        #[test]
        fn damaged_bytes_are_refused_or_read_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Histogram::decode(&bytes);
        }
    }
}
