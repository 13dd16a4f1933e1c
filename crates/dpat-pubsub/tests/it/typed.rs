//! Values in place of bytes.

use crate::run;
use bytes::Bytes;
use dpat_core::{Classify, Effect};
use dpat_pubsub::{Form, FormError, InProcess, PubSub, PublishValueError, TypedDelivery};
use std::sync::Arc;

/// Numbers as text; odd ones have no form.
#[derive(Clone, Copy, Debug)]
struct Even;

impl Form<u64> for Even {
    fn encode(&self, value: &u64) -> Result<Bytes, FormError> {
        if value % 2 == 1 {
            return Err(FormError::new(format!("{value} is odd")));
        }
        Ok(value.to_string().into())
    }

    fn decode(&self, payload: &Bytes) -> Result<u64, FormError> {
        let text = std::str::from_utf8(payload).map_err(FormError::new)?;
        text.parse().map_err(FormError::new)
    }
}

#[test]
fn subscribers_of_the_type_share_the_value() {
    let hub = PubSub::default();
    let mut subscriptions: Vec<_> = (0..3)
        .map(|_| {
            hub.subscribe("a")
                .now()
                .unwrap()
                .typed::<String, _>(InProcess)
        })
        .collect();
    let mut publisher = hub.publisher("a").unwrap().typed::<String, _>(InProcess);
    let value = Arc::new("shared".to_owned());
    run(publisher.publish(Arc::clone(&value))).unwrap();
    for subscription in &mut subscriptions {
        match run(subscription.recv()).unwrap() {
            TypedDelivery::Value(got) => assert!(Arc::ptr_eq(got.value(), &value)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn values_and_payloads_meet() {
    let hub = PubSub::default();
    let mut values = hub.subscribe("a").now().unwrap().typed::<u64, _>(Even);
    let mut texts = hub.subscribe("a").now().unwrap();
    let mut publisher = hub.publisher("a").unwrap().typed::<u64, _>(Even);
    publisher.publish_now(42_u64).unwrap();
    hub.publish_now("a", "7").unwrap();
    hub.publish_now("a", "seven").unwrap();
    assert_eq!(crate::drain(&mut texts), ["42", "7", "seven"]);
    let mut got = Vec::new();
    while let Some(delivery) = values.try_recv().unwrap() {
        got.push(match delivery {
            TypedDelivery::Value(value) => value.to_string(),
            TypedDelivery::Malformed(message, error) => {
                assert_eq!(message.payload(), "seven");
                error.to_string()
            }
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(got, ["42", "7", "invalid digit found in string"]);
}

#[test]
fn a_value_without_a_form_is_not_published() {
    let hub = PubSub::default();
    let mut all = hub.subscribe(">").now().unwrap();
    let mut publisher = hub.publisher("a").unwrap().typed::<u64, _>(Even);
    let refused = run(publisher.publish(7_u64)).unwrap_err();
    assert!(
        matches!(refused, PublishValueError::Encode(_)),
        "{refused:?}"
    );
    assert_eq!(refused.effect(), Effect::NotDone);
    assert_eq!(refused.to_string(), "encode: 7 is odd");
    assert_eq!(crate::drain(&mut all), [""; 0]);
}

#[test]
fn lag_and_end_come_through() {
    let hub = PubSub::default();
    let subscribe = hub.subscribe("a").capacity(1);
    let mut values = subscribe.now().unwrap().typed::<u64, _>(Even);
    let mut publisher = hub.publisher("a").unwrap().typed::<u64, _>(Even);
    publisher.publish_now(2_u64).unwrap();
    publisher.publish_now(4_u64).unwrap();
    assert!(matches!(run(values.recv()), Ok(TypedDelivery::Lagged(1))));
    run(hub.close());
    assert!(matches!(run(values.recv()), Ok(TypedDelivery::Value(_))));
    assert!(run(values.recv()).is_err());
}

#[test]
fn a_value_of_another_type_is_decoded_from_its_payload() {
    let hub = PubSub::default();
    let mut numbers = hub.subscribe("a").now().unwrap().typed::<u64, _>(Even);
    let mut strings = hub.publisher("a").unwrap().typed::<String, _>(InProcess);
    strings.publish_now("4".to_owned()).unwrap();
    // Its payload is empty: it has no form.
    assert!(matches!(
        run(numbers.recv()),
        Ok(TypedDelivery::Malformed(..))
    ));
}

#[cfg(feature = "codec")]
#[test]
fn a_codec_is_a_form() {
    use dpat_codec::Json;
    use dpat_pubsub::Coded;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Price {
        metal: String,
        cents: u64,
    }
    let form = Coded(Json::with_bytes_max(64));
    let hub = PubSub::default();
    let mut texts = hub.subscribe("a").now().unwrap();
    let mut prices = hub.subscribe("a").now().unwrap().typed::<Price, _>(form);
    let mut publisher = hub.publisher("a").unwrap().typed::<Price, _>(form);
    let price = |metal: &str| Price {
        metal: metal.to_owned(),
        cents: 7,
    };
    publisher.publish_now(price("gold")).unwrap();
    hub.publish_now("a", r#"{"metal":"tin","cents":7}"#)
        .unwrap();
    hub.publish_now("a", r#"{"metal":"tin"}"#).unwrap();
    assert_eq!(crate::drain(&mut texts)[0], r#"{"metal":"gold","cents":7}"#);
    for metal in ["gold", "tin"] {
        match run(prices.recv()).unwrap() {
            TypedDelivery::Value(got) => assert_eq!(*got, price(metal)),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(
        run(prices.recv()),
        Ok(TypedDelivery::Malformed(..))
    ));
    let long = publisher.publish_now(price(&"x".repeat(64)));
    assert!(
        matches!(long, Err(PublishValueError::Encode(_))),
        "{long:?}"
    );
}
