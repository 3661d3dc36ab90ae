use super::*;
use crate::wire::session::EXEMPT_METADATA_METHODS;

/// All methods of Viam's API that carry the mark, July 2026.
const MARKED: [&str; 20] = [
    "/viam.component.arm.v1.ArmService/MoveThroughJointPositions",
    "/viam.component.arm.v1.ArmService/MoveThroughJointPositionsStreamed",
    "/viam.component.arm.v1.ArmService/MoveToJointPositions",
    "/viam.component.arm.v1.ArmService/MoveToPosition",
    "/viam.component.base.v1.BaseService/MoveStraight",
    "/viam.component.base.v1.BaseService/SetPower",
    "/viam.component.base.v1.BaseService/SetVelocity",
    "/viam.component.base.v1.BaseService/Spin",
    "/viam.component.button.v1.ButtonService/Push",
    "/viam.component.gantry.v1.GantryService/MoveToPosition",
    "/viam.component.gripper.v1.GripperService/GoToInputs",
    "/viam.component.gripper.v1.GripperService/Grab",
    "/viam.component.gripper.v1.GripperService/Open",
    "/viam.component.motor.v1.MotorService/GoFor",
    "/viam.component.motor.v1.MotorService/GoTo",
    "/viam.component.motor.v1.MotorService/SetPower",
    "/viam.component.motor.v1.MotorService/SetRPM",
    "/viam.component.servo.v1.ServoService/Move",
    "/viam.component.switch.v1.SwitchService/SetPosition",
    "/viam.component.testecho.v1.TestEchoService/EchoMultiple",
];

fn paths(table: &Monitored) -> Vec<&str> {
    let mut paths: Vec<_> = table.monitored().collect();
    paths.sort_unstable();
    paths
}

#[test]
fn the_table_is_exactly_the_methods_that_viam_marks() {
    let table = Monitored::new();
    assert_eq!(paths(&table), MARKED);
    for path in MARKED {
        assert_eq!(table.lookup(path), Monitoring::Monitored, "{path}");
    }
}

#[test]
fn what_is_not_marked_is_unmonitored_if_its_service_is_known_and_unknown_if_not() {
    let table = Monitored::new();
    let exempt = EXEMPT_METADATA_METHODS.iter().skip(1);
    for path in exempt.chain(&[
        "/viam.component.motor.v1.MotorService/Stop",
        "/viam.component.motor.v1.MotorService/DoCommand",
        "/viam.component.motor.v1.MotorService/",
        "/viam.component.gantry.v1.GantryService/Home",
        "/viam.component.testecho.v1.TestEchoService/EchoBiDi",
        "/proto.rpc.examples.echo.v1.EchoService/EchoMultiple",
    ]) {
        assert_eq!(table.lookup(path), Monitoring::Unmonitored, "{path}");
    }
    for path in [
        "",
        "/",
        "//",
        "SetPower",
        "/SetPower",
        "/viam.component.motor.v1.MotorService",
        "viam.component.motor.v1.MotorService/SetPower",
        "/acme.v1.Winch/SetPower",
        "/viam.component.motor.v2.MotorService/SetPower",
        "/viam.component.motor.v1.MotorService/SetPower/",
        "//viam.component.motor.v1.MotorService/SetPower",
        "/VIAM.component.motor.v1.MotorService/SetPower",
        EXEMPT_METADATA_METHODS[0],
    ] {
        assert_eq!(table.lookup(path), Monitoring::Unknown, "{path}");
    }
    assert_eq!(Monitored::empty().lookup(MARKED[0]), Monitoring::Unknown);
}

/// The bytes of `service acme.v1.Winch` with one method of each options' bytes.
fn described(methods: &[(&str, &[u8])]) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| {
        let mut field = vec![tag << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut field);
        [&field, bytes].concat()
    };
    let method = |(name, options): &(&str, &[u8])| {
        let kind = [0x28, 1]; // client_streaming, a varint before and after what matters
        [&kind, &*field(1, name.as_bytes()), &field(4, options), &[0x30, 1]].concat()
    };
    let methods: Vec<u8> = methods.iter().flat_map(|each| field(2, &method(each))).collect();
    let service = [field(1, b"Winch"), methods].concat();
    let file = [field(1, b"winch.proto"), field(2, b"acme.v1"), field(6, &service)].concat();
    field(1, &file)
}

const MARK: [u8; 3] = [0xa0, 0x92, 0x29];

#[test]
fn the_mark_is_read_by_its_value_and_among_options_of_every_wire_type() {
    let on = [&MARK[..], &[1]].concat();
    let off = [&MARK[..], &[0]].concat();
    let deprecated = [0x88, 0x02, 1];
    // An extension of fixed 32 bits, one of fixed 64 bits, and one of bytes that look like the mark.
    let others =
        [&[0x85, 0x7d, 1, 2, 3, 4, 0x81, 0x7d, 1, 2, 3, 4, 5, 6, 7, 8, 0x82, 0x7d, 4][..], &on].concat();
    let table = Monitored::new().with_descriptors(described(&[
        ("Plain", &[]),
        ("On", &on),
        ("Off", &off),
        ("Deprecated", &deprecated),
        ("DeprecatedOn", &[&deprecated[..], &on].concat()),
        ("OnDeprecated", &[&on[..], &deprecated].concat()),
        ("Others", &others),
        ("OthersOn", &[&others[..], &on].concat()),
        ("OnThenOff", &[&on[..], &off].concat()),
    ]));
    let table = table.unwrap();
    let marked =
        ["DeprecatedOn", "On", "OnDeprecated", "OthersOn"].map(|name| format!("/acme.v1.Winch/{name}"));
    assert_eq!(paths(&table)[..4], marked);
    for name in ["Plain", "Off", "Deprecated", "Others", "OnThenOff", "New"] {
        assert_eq!(table.lookup(&format!("/acme.v1.Winch/{name}")), Monitoring::Unmonitored, "{name}");
    }
    assert_eq!(paths(&table)[4..], MARKED);
}

#[test]
fn later_descriptors_take_a_mark_away_only_by_saying_so() {
    let on = described(&[("Lift", &[0xa0, 0x92, 0x29, 1])]);
    let silent = described(&[("Lift", &[])]);
    let off = described(&[("Lift", &[0xa0, 0x92, 0x29, 0])]);
    let path = "/acme.v1.Winch/Lift";
    let table = Monitored::empty().with_descriptors(&on).unwrap().with_descriptors(&silent).unwrap();
    assert_eq!(table.lookup(path), Monitoring::Monitored);
    let other = table.clone().with_descriptors(&off).unwrap();
    assert_eq!((other.lookup(path), table.lookup(path)), (Monitoring::Unmonitored, Monitoring::Monitored));
    assert_eq!(other.with_method(path).lookup(path), Monitoring::Monitored);
}

#[test]
fn a_method_can_be_added_alone_and_says_nothing_about_its_neighbours() {
    let table = Monitored::new().with_method("/acme.v1.Winch/Lift").with_method("acme.v1.Crane/Turn");
    assert_eq!(table.lookup("/acme.v1.Winch/Lift"), Monitoring::Monitored);
    assert_eq!(table.lookup("/acme.v1.Crane/Turn"), Monitoring::Monitored);
    assert_eq!(table.lookup("/acme.v1.Winch/Stop"), Monitoring::Unknown);
    let table = table.with_method("/viam.component.gantry.v1.GantryService/Home");
    assert_eq!(table.lookup("/viam.component.gantry.v1.GantryService/Home"), Monitoring::Monitored);
    assert_eq!(table.lookup("/viam.component.gantry.v1.GantryService/Stop"), Monitoring::Unmonitored);
}

#[test]
fn what_is_no_descriptor_set_is_an_error() {
    let good = described(&[("Lift", &[0xa0, 0x92, 0x29, 1])]);
    for bad in
        [b"\xff".as_slice(), &good[..good.len() - 1], &[&good[..], &[0x0a]].concat(), b"not descriptors"]
    {
        assert!(Monitored::new().with_descriptors(bad).is_err(), "{bad:?}");
    }
    // The mark as a string instead of a bool.
    assert!(Monitored::new().with_descriptors(described(&[("Lift", &[0xa2, 0x92, 0x29, 1, 1])])).is_err());
    assert_eq!(Monitored::empty().with_descriptors([]).unwrap().monitored().count(), 0);
}
