//! What a reader sees, what is kept for one that comes back, and what is given up under pressure.

use super::*;
use bytes::Bytes;

const OK: Class = Class::Response(Outcome::Ok);

fn text(text: &str) -> Payload {
    Payload::One(Bytes::copy_from_slice(text.as_bytes()))
}

fn next(reader: &Reader) -> Option<(u64, String)> {
    match reader.poll_next(&Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(event)) => Some((
            event.seq,
            String::from_utf8(event.payload.parts().concat()).unwrap(),
        )),
        _ => None,
    }
}

fn ended(reader: &Reader) -> bool {
    matches!(
        reader.poll_next(&Context::from_waker(Waker::noop())),
        Poll::Ready(None)
    )
}

fn first(stream: &Stream) -> Poll<First> {
    stream.poll_first(&Context::from_waker(Waker::noop()))
}

#[test]
fn a_lone_response_is_an_answer() {
    let shelf = Shelf::new();
    let stream = shelf.stream(1, true, false);
    assert!(first(&stream).is_pending());
    assert!(stream.push(OK, text("r")));
    assert!(matches!(first(&stream), Poll::Ready(First::Answer(_))));
    assert_eq!(shelf.held(), (0, 0));
}

#[test]
fn anything_before_the_response_makes_it_a_stream() {
    let shelf = Shelf::new();
    let stream = shelf.stream(1, true, false);
    stream.push(Class::Notification, text("n"));
    assert!(matches!(first(&stream), Poll::Ready(First::More)));
    let reader = stream.open();
    stream.push(OK, text("r"));
    assert_eq!(next(&reader), Some((1, "n".into())));
    assert_eq!(next(&reader), Some((2, "r".into())));
    assert!(ended(&reader));
}

#[test]
fn a_client_without_event_streams_gets_responses_only() {
    let shelf = Shelf::new();
    let stream = shelf.stream(1, false, true);
    assert!(!stream.push(Class::Notification, text("n")));
    assert!(!stream.push(Class::Request, text("q")));
    stream.push(OK, text("r"));
    assert!(matches!(first(&stream), Poll::Ready(First::Answer(_))));
}

#[test]
fn a_reader_that_comes_back_gets_exactly_what_it_missed() {
    let shelf = Shelf::new();
    let stream = shelf.stream(1, true, false);
    let reader = stream.open();
    shelf.keep(&stream);
    stream.push(Class::Notification, text("1"));
    stream.push(Class::Notification, text("2"));
    assert_eq!(next(&reader), Some((1, "1".into())));
    assert_eq!(next(&reader), Some((2, "2".into())));
    drop(reader);
    stream.push(OK, text("3"));
    let back = shelf.find(stream.number()).unwrap().resume(1).unwrap();
    assert_eq!(next(&back), Some((2, "2".into())));
    assert_eq!(next(&back), Some((3, "3".into())));
    assert!(ended(&back));
    assert!(stream.resume(4).is_none(), "an event that never was");
}

#[test]
fn a_new_reader_ends_the_old_one() {
    let shelf = Shelf::new();
    let stream = shelf.standalone();
    let old = stream.listen().unwrap();
    assert!(stream.listen().is_none(), "somebody reads");
    let new = stream.resume(0).unwrap();
    stream.push(Class::Notification, text("n"));
    assert!(ended(&old));
    assert_eq!(next(&new), Some((1, "n".into())));
    drop(old);
    assert!(stream.attached(), "the old reader's end is not the new one's");
    stream.hang_up();
    assert!(ended(&new) && !stream.attached());
    assert!(stream.listen().is_some());
}

#[test]
fn without_resume_a_lost_reader_is_the_end() {
    let shelf = Shelf::new();
    let stream = shelf.stream(1, false, false);
    let reader = stream.open();
    stream.push(Class::Notification, text("n"));
    drop(reader);
    assert!(!stream.push(OK, text("late")));
    assert_eq!(shelf.held(), (0, 0));
}

#[test]
fn pressure_drops_notifications_and_replay_but_no_awaited_response() {
    let shelf = Shelf::new();
    let big = "x".repeat(3 * 1024 * 1024);
    let done = shelf.stream(1, true, false);
    let reader = done.open();
    shelf.keep(&done);
    done.push(OK, text(&big));
    assert!(next(&reader).is_some());
    drop(reader);

    let slow = shelf.stream(2, true, false);
    let reader = slow.open();
    shelf.keep(&slow);
    assert!(slow.push(Class::Notification, text(&big)));
    assert!(
        slow.push(Class::Notification, text(&big)),
        "the ended stream makes room"
    );
    assert!(shelf.find(done.number()).is_none());
    assert!(
        !slow.push(Class::Notification, text(&big)),
        "nothing left to give up"
    );
    assert!(
        slow.push(OK, text(&big)),
        "a response to a reader is kept all the same"
    );
    drop(reader);
    assert!(!slow.push(OK, text(&big)), "nobody reads and there is no room");
    drop(slow);
    shelf.clear();
    assert_eq!(shelf.held(), (0, 0));
}

#[test]
fn the_number_of_ended_streams_is_bounded() {
    let shelf = Shelf::new();
    for _ in 0..100 {
        let stream = shelf.stream(1, true, false);
        let reader = stream.open();
        shelf.keep(&stream);
        stream.push(OK, text("r"));
        drop(reader);
    }
    assert!(shelf.all().len() <= 34);
}
