//! Filters of webhooks: every tenant writes them, and every event is asked them.

use postrider_core::filter::{Filter, Op, Test};
use serde_json::Value;

/// Lines: a filter, and the data of an event.
///
/// - A filter that is written out and read again is the same filter.
/// - `not`, `all` and `any` mean what they say.
/// - `ne` is the opposite of `eq`, and `exists` of its own opposite; `lt` and `gte` never both hold, nor `gt` and `lte`.
///
/// # Panics
/// If one of these does not hold.
pub fn filters(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (filter, data) = text.split_once('\n').unwrap_or((&text, ""));
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    let Ok(filter) = serde_json::from_str::<Filter>(filter) else { return };
    let shown = serde_json::to_value(&filter).expect("a filter is JSON");
    assert_eq!(Filter::parse(&shown).as_ref(), Ok(&filter));
    let passes = |filter: &Filter| filter.passes("order.paid", &data);
    let (one, both) = (vec![filter.clone()], vec![filter.clone(), filter.clone()]);
    let whole = passes(&filter);
    assert_eq!(passes(&Filter::Not { not: Box::new(filter.clone()) }), !whole);
    assert_eq!(passes(&Filter::All { all: both }), whole);
    assert_eq!(passes(&Filter::Any { any: one }), whole);
    each(&filter, &mut |test| opposites(test, &passes));
}

fn each(filter: &Filter, look: &mut impl FnMut(&Test)) {
    match filter {
        Filter::All { all: filters } | Filter::Any { any: filters } => {
            filters.iter().for_each(|filter| each(filter, look));
        }
        Filter::Not { not } => each(not, look),
        Filter::Test(test) => look(test),
    }
}

fn opposites(test: &Test, passes: &impl Fn(&Filter) -> bool) {
    let holds = |op, value: Option<Value>| passes(&Filter::Test(Test { path: test.path.clone(), op, value }));
    let with = |op| holds(op, test.value.clone());
    match test.op {
        Op::Eq | Op::Ne => assert_ne!(with(Op::Eq), with(Op::Ne), "{test:?}"),
        Op::Gt | Op::Lte => assert!(!(with(Op::Gt) && with(Op::Lte)), "{test:?}"),
        Op::Lt | Op::Gte => assert!(!(with(Op::Lt) && with(Op::Gte)), "{test:?}"),
        Op::Exists => assert_ne!(holds(Op::Exists, Some(true.into())), holds(Op::Exists, Some(false.into()))),
        Op::In | Op::Prefix => {}
    }
}
