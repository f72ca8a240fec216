//! What every checked text has in common: it is shown as it is, and read back only through its own
//! check.

/// `Display`, `Serialize` and `Deserialize` of a checked text with an `as_str` and a constructor.
macro_rules! checked_text {
    ($name:ty, $new:path) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                $new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(super) use checked_text;
