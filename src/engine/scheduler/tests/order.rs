//! Who comes first, and who is told that it would be too late.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn client(number: u32) -> ClientId {
    ClientId::named(number)
}

/// The next passes, each of a second.
fn passes(rig: &Rig, count: usize) -> Vec<u32> {
    let run = |_| {
        rig.pass_time(SECOND);
        rig.end(End::Answers);
        rig.next_pass()
    };
    (0..count).flat_map(run).collect()
}

fn ask(rig: &Rig, class: Class, client: ClientId, numbers: impl IntoIterator<Item = u32>) -> Vec<Ticket> {
    let caller = rig.caller(class, client);
    numbers.into_iter().map(|number| rig.ask(&caller, alone(number)).expect("there is room")).collect()
}

#[test]
fn a_cold_tile_waits_for_the_pass_under_way_only() {
    let rig = Rig::new(64, 1, Duration::ZERO);
    rig.measure(1);
    let _under_way = rig.occupy(1);
    let _others: Vec<_> = (10..18)
        .flat_map(|number| ask(&rig, if number % 2 == 0 { Class::Upload } else { Class::Job }, client(number), [number]))
        .collect();
    passes(&rig, 3);
    let _tile = ask(&rig, Class::Tile, client(1), [100]);
    assert_eq!(passes(&rig, 1), [100]);
    rig.end(End::Answers);
}

#[test]
fn a_pass_waits_for_the_input_of_a_tile_but_not_long() {
    let rig = Rig::new(64, 1, Duration::ZERO);
    let under_way = rig.occupy(1);
    let _upload = ask(&rig, Class::Upload, client(2), [2]);
    let slow = rig.scheduler.enter(&rig.caller(Class::Tile, client(1)), Rig::work(1)).expect("there is room");
    let turn = block_on(slow.turn()).expect("it may read");
    rig.end(End::Answers);
    answer(under_way);
    // The tile is read in time: it comes before the upload, which has been ready for longer.
    let mut tile: Asking = Box::pin(turn.run(alone(3)));
    assert!((&mut tile).now_or_never().is_none());
    assert_eq!(rig.next_pass(), [3]);
    let remote = rig.scheduler.enter(&rig.caller(Class::Tile, client(1)), Rig::work(1)).expect("there is room");
    let _turn = block_on(remote.turn()).expect("it may read");
    rig.pass_time(line::READING);
    rig.end(End::Answers);
    assert_eq!(rig.next_pass(), [2], "the other tile waits for something remote");
    rig.end(End::Answers);
}

#[test]
fn classes_that_all_want_the_device_share_its_time() {
    let rig = Rig::new(64, 1, Duration::ZERO);
    let _under_way = rig.occupy(1);
    let mut tickets = ask(&rig, Class::Tile, client(1), 100..110);
    tickets.extend(ask(&rig, Class::Upload, client(1), 200..210));
    tickets.extend(ask(&rig, Class::Job, client(1), 300..310));
    // The pass under way was an upload's.
    assert_eq!(passes(&rig, 11), [100, 300, 101, 102, 103, 200, 104, 105, 106, 201, 301]);
    rig.end(End::Answers);
}

#[test]
fn clients_take_turns_however_much_one_asks() {
    let rig = Rig::new(64, 1, Duration::ZERO);
    rig.measure(1);
    let _under_way = rig.occupy(1);
    let _many = ask(&rig, Class::Tile, client(1), 10..20);
    // Three inputs of the first client are ready already.
    let _few = ask(&rig, Class::Tile, client(2), 20..22);
    assert_eq!(passes(&rig, 7), [10, 11, 12, 13, 20, 14, 21]);
    rig.end(End::Answers);
}

#[test]
fn only_so_many_inputs_are_read_ahead() {
    let rig = Rig::new(64, 2, Duration::ZERO);
    let _under_way = rig.occupy(1);
    let place = rig.scheduler.enter(&rig.caller(Class::Upload, rig.client), Rig::work(6)).expect("there is room");
    let mut turns: Vec<_> = (0..6).map(|_| Box::pin(place.turn())).collect();
    let mut granted = |rig: &Rig| {
        assert_eq!(rig.scheduler.waiting(), 1);
        let granted = turns.iter_mut().filter_map(|turn| turn.now_or_never());
        granted.collect::<Result<Vec<_>, _>>().expect("nobody is refused")
    };
    let reading = granted(&rig);
    assert_eq!(reading.len(), 4, "a batch and two more");
    turns.drain(..4);
    // A reader that goes on after its caller has gone still counts; one that is slow does not.
    let readers: Vec<_> = reading.iter().map(Turn::reading).collect();
    drop(reading);
    let left = |turns: &mut Vec<Pin<Box<_>>>| {
        turns.iter_mut().filter_map(|turn: &mut Pin<Box<_>>| FutureExt::now_or_never(turn)).count()
    };
    assert_eq!(left(&mut turns), 0);
    drop(readers);
    rig.end(End::Answers);
}

#[test]
fn an_answer_that_would_come_too_late_is_refused_on_arrival_with_the_time_that_others_take() {
    let rig = Rig::new(64, 1, Duration::ZERO);
    (0..2).for_each(|_| rig.measure(2));
    let _under_way = rig.occupy(1);
    let within = |seconds: u64| Caller {
        deadline: Some(rig.now() + Duration::from_secs(seconds)),
        ..rig.caller(Class::Upload, rig.client)
    };
    let mut tickets = Vec::new();
    // Four fifths of ten seconds: the pass under way and three more.
    for number in 2..5 {
        tickets.push(rig.ask(&within(10), alone(number)).expect("there is time"));
    }
    let refusal = rig.ask(&within(10), alone(5)).err().expect("it would take ten seconds");
    assert_eq!(retry_after_s(&refusal), 8);
    assert!(rig.ask(&within(13), alone(6)).is_ok(), "others have more time");
    assert_eq!(rig.scheduler.expected(&within(10), &Rig::work(3)), Duration::from_secs(8 + 6));
    let too_long = rig.scheduler.check(&within(10), &Rig::work(5)).expect_err("it takes longer even alone");
    assert!(
        matches!(too_long, EngineError::TooLong { expected, limit }
        if (expected, limit) == (Duration::from_secs(10), Duration::from_secs(10))),
        "{too_long}"
    );
    rig.end(End::Answers);
}

#[test]
fn one_slow_pass_refuses_nobody_for_its_length() {
    let rig = Rig::new(64, 1, Duration::ZERO);
    let caller = Caller { deadline: Some(rig.now() + 100 * SECOND), ..rig.caller(Class::Upload, rig.client) };
    rig.measure(2);
    assert!(rig.scheduler.check(&caller, &Rig::work(60)).is_ok(), "its own first passes will show it");
    rig.measure(2);
    let refused = rig.scheduler.check(&caller, &Rig::work(60)).expect_err("the second one confirms it");
    assert!(matches!(refused, EngineError::TooLong { expected, .. } if expected == 120 * SECOND), "{refused}");
}

#[test]
fn what_cannot_be_done_in_its_time_ends_as_soon_as_its_first_passes_show_it() {
    let run = |seconds: &[u64], passes, limit: Option<u64>| {
        let rig = Rig::new(64, 1, Duration::ZERO);
        let deadline = limit.map(|limit| rig.now() + Duration::from_secs(limit));
        let caller = Caller { deadline, ..rig.caller(Class::Upload, rig.client) };
        let place = rig.scheduler.enter(&caller, Rig::work(passes)).expect("nothing is known of its passes");
        for (number, seconds) in seconds.iter().enumerate() {
            let mut asking: Asking = Box::pin(block_on(place.turn()).expect("its turn").run(alone(number as u32)));
            assert!((&mut asking).now_or_never().is_none());
            assert_eq!(rig.next_pass(), [number as u32]);
            rig.pass_time(Duration::from_secs(*seconds));
            rig.end(End::Answers);
            block_on(asking).expect("an answer");
        }
        block_on(place.turn()).map(drop)
    };
    let refused = run(&[5, 5], 100, Some(120)).expect_err("500 s are needed");
    assert!(
        matches!(refused, EngineError::TooLong { expected, limit }
        if (expected, limit) == (Duration::from_secs(500), Duration::from_secs(120))),
        "{refused}"
    );
    assert!(run(&[5], 100, Some(120)).is_ok(), "one pass says little");
    assert!(run(&[30, 1], 80, Some(120)).is_ok(), "the first was slower than the others will be");
    assert!(run(&[5, 5], 24, Some(120)).is_ok(), "there is just time");
    assert!(run(&[5, 5], 100, None).is_ok(), "nobody waits for it");
}

#[test]
fn a_free_device_tries_what_was_slow_once() {
    let rig = Rig::new(64, 1, Duration::ZERO);
    rig.measure(1000);
    let caller = Caller { deadline: Some(rig.now() + SECOND), ..rig.caller(Class::Tile, rig.client) };
    let ticket = rig.ask(&caller, alone(1)).expect("a free device takes anything");
    assert_eq!(rig.next_pass(), [1]);
    rig.end(End::Answers);
    assert_eq!(answer(ticket), 10);
}

#[test]
fn what_has_waited_too_long_is_dropped_before_its_pass() {
    let rig = Rig::new(64, 1, Duration::ZERO);
    rig.measure(1);
    let _under_way = rig.occupy(1);
    let hurried = Caller { deadline: Some(rig.now() + 5 * SECOND), ..rig.caller(Class::Upload, rig.client) };
    let late = rig.ask(&hurried, alone(2)).expect("there is time");
    let patient = rig.submit(alone(3));
    // The pass under way takes longer than any before.
    rig.pass_time(5 * SECOND);
    rig.end(End::Answers);
    assert_eq!(rig.next_pass(), [3]);
    assert_eq!(outcome(late).expect_err("it is too late").kind(), ErrorKind::Overloaded);
    rig.end(End::Answers);
    assert_eq!(answer(patient), 30);
}

#[test]
fn the_estimate_counts_everything_that_goes_before_and_nothing_else() {
    let rig = Rig::new(64, 1, Duration::ZERO);
    rig.measure(1);
    let _under_way = rig.occupy(1);
    let enter =
        |class, number, passes| rig.scheduler.enter(&rig.caller(class, client(number)), Rig::work(passes)).expect("room");
    let _places = [enter(Class::Upload, 1, 10), enter(Class::Upload, 2, 1), enter(Class::Job, 3, 1000)];
    let expected = |class, number| rig.scheduler.expected(&rig.caller(class, client(number)), &Rig::work(1)).as_secs_f64();
    // Left of the pass under way: 1. A newcomer's pass, one of each other client's, and the jobs' share of half as much.
    assert_eq!(expected(Class::Upload, 9), 1.0 + 3.0 + 1.5);
    assert_eq!(expected(Class::Upload, 1), 1.0 + 11.0 + 1.0 + 6.0);
    // Uploads get a third of a tile's time meanwhile, and jobs a sixth.
    assert!((expected(Class::Tile, 9) - 2.5).abs() < 1e-6);
    rig.end(End::Answers);
}

#[test]
fn in_a_full_queue_the_client_with_most_places_makes_room() {
    let rig = Rig::new(4, 1, Duration::ZERO);
    let _under_way = rig.occupy(1);
    let greedy = ask(&rig, Class::Tile, client(1), 10..14);
    // The first three are being read or ready; the fourth has cost nothing.
    let modest = ask(&rig, Class::Tile, client(2), [20]);
    let mut greedy: Vec<_> = greedy.into_iter().collect();
    let displaced = outcome(greedy.pop().expect("four")).expect_err("it made room");
    assert!(matches!(displaced, EngineError::Overloaded { waiting: 4, .. }), "{displaced}");
    assert_eq!(rig.scheduler.waiting(), 4);
    let caller = rig.caller(Class::Tile, client(1));
    assert!(rig.ask(&caller, alone(14)).is_err(), "who has most places gets no other");
    assert_eq!(passes(&rig, 4), [10, 11, 12, 20]);
    rig.end(End::Answers);
    drop(modest);
}

#[test]
fn every_place_counts_until_its_last_pass_begins_or_its_caller_goes() {
    let rig = Rig::new(64, 1, Duration::ZERO);
    let under_way = rig.occupy(1);
    assert_eq!(rig.scheduler.waiting(), 0);
    let place = rig.scheduler.enter(&rig.caller(Class::Job, rig.client), Rig::work(2)).expect("there is room");
    assert_eq!(rig.scheduler.waiting(), 1);
    // A window without data needs no pass.
    drop(block_on(place.turn()).expect("its turn"));
    let turn = block_on(place.turn()).expect("its turn");
    let mut last: Asking = Box::pin(turn.run(alone(2)));
    assert!((&mut last).now_or_never().is_none());
    assert_eq!(rig.scheduler.waiting(), 1);
    rig.end(End::Answers);
    answer(under_way);
    assert_eq!((rig.next_pass(), rig.scheduler.waiting()), (vec![2], 0));
    rig.end(End::Answers);
    let gone = rig.scheduler.enter(&rig.caller(Class::Tile, rig.client), Rig::work(1)).expect("there is room");
    assert_eq!(rig.scheduler.waiting(), 1);
    drop(gone);
    assert_eq!(rig.scheduler.waiting(), 0);
}

#[test]
fn a_scheduler_that_closes_keeps_what_will_be_done_by_then() {
    let rig = Rig::new(64, 1, Duration::ZERO);
    rig.measure(1);
    let _under_way = rig.occupy(1);
    let [first, second, third] = [2, 3, 4].map(|number| rig.submit(alone(number)));
    rig.scheduler.close(rig.now() + 3 * SECOND);
    assert!(matches!(outcome(third), Err(EngineError::Stopping)), "four seconds are needed");
    assert!(matches!(rig.refusal(alone(5)), EngineError::Stopping));
    assert_eq!(passes(&rig, 2), [2, 3]);
    rig.end(End::Answers);
    assert_eq!((answer(first), answer(second)), (20, 30));
}
