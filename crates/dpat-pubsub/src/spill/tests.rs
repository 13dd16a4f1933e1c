use super::*;
use crate::message::Draft;
use dpat_storage::MemStorage;

fn file(storage: &MemStorage, bytes_max: usize) -> SpillFile {
    let spill = Spill::new(AnyStorage::new(storage.clone()), "spill", bytes_max);
    spill.open(Telemetry::new("test".into())).unwrap()
}

fn message(number: u32) -> Message {
    let draft = Draft::new(vec![7; 100])
        .header("number", number.to_string())
        .reply_to("inbox.1".parse().unwrap());
    Message::new("a.b".parse().unwrap(), draft)
}

#[test]
fn messages_come_back_whole_and_in_order() {
    let storage = MemStorage::new();
    let mut file = file(&storage, 4096);
    // Many times around the ring.
    for round in 0..50 {
        for number in 0..10 {
            assert!(file.write(&message(round * 10 + number), u64::from(number)));
        }
        let back = file.read(4).into_iter().chain(file.read(100));
        for (number, (lost_before, message_back)) in back.enumerate() {
            assert_eq!(lost_before, number as u64);
            let number = round * 10 + u32::try_from(number).unwrap();
            assert_eq!(message_back, Some(message(number)));
        }
    }
    assert_eq!(file.records, 0);
    assert!(storage.metadata("spill").unwrap().len <= 4096);
}

#[test]
fn a_full_file_takes_no_more() {
    let storage = MemStorage::new();
    let mut file = file(&storage, 4096);
    let count = (0..100)
        .take_while(|number| file.write(&message(*number), 0))
        .count();
    assert!((10..40).contains(&count), "{count}");
    assert_eq!(storage.metadata("spill").unwrap().len, file.written);
    assert_eq!(file.read(1).len(), 1);
    assert!(file.write(&message(0), 0), "there is room again");
}

#[test]
fn damage_is_found_and_counted() {
    let storage = MemStorage::new();
    let mut file = file(&storage, 4096);
    for number in 0..4 {
        assert!(file.write(&message(number), u64::from(number == 2)));
    }
    let record = usize::try_from(file.written / 4).unwrap() as u64;
    let mut other = storage.open("spill").unwrap();
    // In the payload of the second record.
    other.write_at(2 * record - 1, &[8]).unwrap();
    let back = file.read(2);
    assert_eq!(back, [(0, Some(message(0))), (0, None)]);
    // In the length of the third: the fourth cannot be found either.
    other.write_at(2 * record, &[0xff; 4]).unwrap();
    assert_eq!(file.read(1), [(1, None), (0, None)]);
    assert!(file.write(&message(9), 0));
    assert_eq!(file.read(9), [(0, Some(message(9)))]);
}

#[test]
fn a_storage_that_is_full_or_short_loses_messages_and_nothing_else() {
    let storage = MemStorage::with_bytes_max(1000);
    let mut file = file(&storage, 4096);
    let count = (0..100)
        .take_while(|number| file.write(&message(*number), 0))
        .count();
    assert!((1..8).contains(&count), "{count}");
    assert_eq!(file.read(100).len(), count);
    drop(file);
    let mut file = self::file(&storage, 4096);
    assert!(file.write(&message(1), 0));
    storage.open("spill").unwrap().truncate(3).unwrap();
    assert_eq!(file.read(100), [(0, None)], "cut off by somebody else");
}

#[test]
fn the_file_is_replaced_and_removed() {
    let storage = MemStorage::new();
    storage
        .create("spill")
        .unwrap()
        .append(b"of a killed process")
        .unwrap();
    let file = file(&storage, 4096);
    assert_eq!(storage.metadata("spill").unwrap().len, 0);
    drop(file);
    assert!(storage.metadata("spill").is_err());
}
