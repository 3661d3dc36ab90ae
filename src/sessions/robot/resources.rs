//! What the robot's own code tells sessions: what there is, what a call moves, and how to stop it.
//!
//! Floor 4. Invariant: only resources that the robot has are ever held by a session, whatever a request says.

use std::error::Error;

use crate::proto::common::ResourceName;

/// The resources of a robot: what can be moved, and must be stopped when whoever moved it goes silent.
///
/// A resource is known by its full name, `namespace:type:subtype/name`: `rdk:component:motor/m1`.
#[tonic::async_trait]
pub trait Resources: Send + Sync + 'static {
    /// All resources, as ResourceNames lists them.
    fn names(&self) -> Vec<ResourceName>;

    /// The full names of what a monitored call moves. `method` is its path, `/package.Service/Method`;
    /// `message` is its first message without the prefix, or the first 64 KiB of it.
    ///
    /// By default what rdk takes: [`named_by`], if the robot [has](Self::names) it. Should be quick, and must not
    /// block; a panic ends the call.
    ///
    /// # Security
    /// A name that is not a resource of the robot must not be returned: requests say what they like, and each
    /// name that is held takes memory until its session ends.
    fn moved_by(&self, method: &str, message: &[u8]) -> Vec<String> {
        let Some(full) = named_by(method, message) else { return Vec::new() };
        let exists = self.names().iter().any(|name| full_name(name) == full);
        if exists { vec![full] } else { Vec::new() }
    }

    /// Stops a resource; returns when it stands or has been told to. Called with each resource that an ended
    /// session moved last or whose calls are still moving it, for each in a task of its own. Not called while a
    /// monitored call is beginning to move it. Called again when the handlers that may have moved it meanwhile are
    /// gone; if they are not, about as often as the builder's `stop_timeout`, at most every 100 ms and at least
    /// every 5 s.
    ///
    /// Dropped when it takes longer than the builder's `stop_timeout`; a panic counts as a failure. It must not
    /// block the thread. One that fails is tried again after 100 ms, then after twice as long each time, up to 5 s:
    /// until it succeeds, somebody else takes the resource, or the manager is
    /// [closed](super::SessionManager::close).
    ///
    /// # Errors
    /// Anything; it goes into [`SessionEvent::StopFailed`](super::SessionEvent::StopFailed).
    async fn stop(&self, resource: &str) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// The full name of a resource: `namespace:type:subtype/name`.
pub fn full_name(name: &ResourceName) -> String {
    let ResourceName { namespace, r#type, subtype, name } = name;
    format!("{namespace}:{type}:{subtype}/{name}", r#type = r#type)
}

/// The full name of the resource that a request names, as rdk finds it: the API that the method's path tells,
/// and the string in field 1 of the message. `None` if there is no such API or the name is empty.
///
/// The service must be called `<namespace>.<type>.<subtype>.<version>.<Service>`, five words, as Viam's are:
/// `/viam.component.motor.v1.MotorService/SetPower` with `m1` is `rdk:component:motor/m1`, and
/// `/acme.component.crane.v1.CraneService/Lift` with `c1` is `acme:component:crane/c1`. `/acme.Crane/Lift` and
/// `/acme.crane.v1.Crane/Lift` are `None`: implement [`Resources::moved_by`] for such services.
pub fn named_by(method: &str, message: &[u8]) -> Option<String> {
    let (service, _) = method.strip_prefix('/')?.split_once('/')?;
    let mut words = service.split('.');
    let namespace = words.next().map(|word| if word == "viam" { "rdk" } else { word })?;
    let (kind, subtype) = (words.next()?, words.next()?);
    let version_and_service = words.count();
    let name = first_string(message).filter(|name| !name.is_empty())?;
    (version_and_service == 2).then(|| format!("{namespace}:{kind}:{subtype}/{name}"))
}

/// The string in field 1 of a message; its last occurrence, as protobuf says. What is cut off at the end of
/// `message` is not looked at.
fn first_string(message: &[u8]) -> Option<&str> {
    let mut found = None;
    let mut rest = message;
    while let Some(field) = Field::read(rest) {
        if field.number == 1 {
            found = field.text.and_then(|text| std::str::from_utf8(text).ok()).or(found);
        }
        rest = field.after;
    }
    found
}

/// One field of a message.
struct Field<'a> {
    number: u64,
    /// Its bytes, if it is length-delimited.
    text: Option<&'a [u8]>,
    /// What follows it.
    after: &'a [u8],
}

impl<'a> Field<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let (key, rest) = varint(message)?;
        let (text, after) = match key & 7 {
            0 => (None, varint(rest)?.1),
            1 => (None, rest.get(8..)?),
            2 => {
                let (length, rest) = varint(rest)?;
                let (text, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (Some(text), after)
            }
            5 => (None, rest.get(4..)?),
            _ => return None,
        };
        Some(Self { number: key >> 3, text, after })
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(place).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[place + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::motor::{GoForRequest, SetPowerRequest};

    const SET_POWER: &str = "/viam.component.motor.v1.MotorService/SetPower";

    #[test]
    fn a_request_names_its_resource_in_field_1() {
        let go = GoForRequest { name: "m1".to_owned(), rpm: 5.0, revolutions: 2.5, extra: None };
        let named = named_by("/viam.component.motor.v1.MotorService/GoFor", &go.encode_to_vec());
        assert_eq!(named.as_deref(), Some("rdk:component:motor/m1"));
        let other = named_by("/acme.service.crane.v2.CraneService/Lift", &go.encode_to_vec());
        assert_eq!(other.as_deref(), Some("acme:service:crane/m1"));
        for method in
            ["", "/", "/viam.robot.v1.RobotService/StopAll", "/viam.component.motor.v1/Go", "/a.B/C"]
        {
            assert_eq!(named_by(method, &go.encode_to_vec()), None, "{method}");
        }
        let nameless = SetPowerRequest { power_pct: 1.0, ..Default::default() };
        assert_eq!(named_by(SET_POWER, &nameless.encode_to_vec()), None);
    }

    #[test]
    fn the_name_is_found_in_any_order_and_in_what_is_cut_short() {
        // Field 2 as fixed64, then the name, then a long field that is cut.
        let mut message = vec![0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 2, b'm', b'2'];
        assert_eq!(first_string(&message), Some("m2"));
        message.extend([0x1a, 0xff, 0xff, 0x7f, 1, 2, 3]);
        assert_eq!(first_string(&message), Some("m2"));
        message.extend([0x0a, 1, b'x']);
        assert_eq!(first_string(&message), Some("m2"));
        assert_eq!(first_string(&[0x0a, 1, b'a', 0x0a, 1, b'b']), Some("b"));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for first in 0..=255_u8 {
            for second in 0..=255 {
                for length in [0, 1, 12] {
                    let mut message = vec![first, second];
                    message.resize(2 + length, 0xff);
                    let _ = first_string(&message);
                }
            }
        }
    }
}
