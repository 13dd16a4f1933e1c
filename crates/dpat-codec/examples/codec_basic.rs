//! One value in two forms, and what the guard refuses.

#![allow(clippy::print_stdout, reason = "an example talks")]

use dpat_codec::{Codec, Json, Postcard};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Stored {
    V0(Order),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    items: Vec<(String, u32)>,
    note: Option<String>,
}

/// A type that contains itself: its depth is that of the input.
#[derive(Debug, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Box<Tree>, Box<Tree>),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let order = Stored::V0(Order {
        id: 7,
        items: vec![("cup".to_owned(), 2)],
        note: None,
    });
    let compact = Postcard::DEFAULT.to_vec(&order)?;
    println!("postcard, {} bytes: {compact:?}", compact.len());
    let json = Json::DEFAULT.to_vec(&order)?;
    println!(
        "json, {} bytes: {}",
        json.len(),
        String::from_utf8_lossy(&json)
    );
    assert_eq!(Postcard::DEFAULT.decode::<Stored>(&compact)?, order);
    assert_eq!(Json::DEFAULT.decode::<Stored>(&json)?, order);

    let hostile: [(&str, &[u8]); 4] = [
        ("too long", &[0; 2 << 20]),
        ("truncated", &compact[..3]),
        ("2^60 units", &[128, 128, 128, 128, 128, 128, 128, 128, 16]),
        ("100 000 levels", &[1; 100_000]),
    ];
    for (name, bytes) in hostile {
        let error = match name {
            "2^60 units" => Postcard::DEFAULT.decode::<Vec<()>>(bytes).err(),
            "100 000 levels" => Postcard::DEFAULT.decode::<Tree>(bytes).err(),
            _ => Postcard::DEFAULT.decode::<Stored>(bytes).err(),
        };
        println!("{name}: {}", error.ok_or("was accepted")?);
    }
    let mut trailing = compact;
    trailing.push(0);
    println!(
        "a byte more: {}",
        Postcard::DEFAULT
            .decode::<Stored>(&trailing)
            .expect_err("a byte follows the value")
    );
    Ok(())
}
