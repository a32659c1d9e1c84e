//! Several devices behind one line, and batches that fill.

use std::collections::BTreeSet;

use futures::StreamExt;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn two() -> Rig {
    Rig::on(2, BatchOptions { queue_capacity: 64, max_batch: 1, max_delay: Duration::ZERO })
}

impl Rig {
    fn end_both(&self) {
        [0, 1].into_iter().for_each(|device| self.end_on(device, End::Answers));
    }
}

/// A pass on each device, by device.
fn occupy_both(rig: &Rig) -> [Ticket; 2] {
    let [first, second] = [rig.occupy(1), rig.occupy(2)];
    if rig.latest.get() == 1 { [first, second] } else { [second, first] }
}

#[test]
fn what_waits_goes_to_the_device_that_is_free_first() {
    let rig = two();
    let [on_first, on_second] = occupy_both(&rig);
    let [third, fourth] = [3, 4].map(|number| rig.submit(alone(number)));
    assert_eq!(rig.scheduler.waiting(), 2);
    rig.pass_time(SECOND);
    rig.end_on(1, End::Answers);
    assert_eq!((rig.next_pass(), rig.latest.get()), (vec![3], 1));
    answer(on_second);
    rig.pass_time(SECOND);
    assert_eq!(rig.scheduler.running(), Some(2 * SECOND), "the longest");
    rig.end_on(1, End::Answers);
    assert_eq!((rig.next_pass(), rig.latest.get(), answer(third)), (vec![4], 1, 30));
    rig.end_on(0, End::Answers);
    rig.end_on(1, End::Answers);
    answer(on_first);
    assert_eq!(answer(fourth), 40);
}

#[test]
fn what_lies_in_the_memory_of_one_device_waits_for_that_one() {
    let rig = two();
    let _under_way = occupy_both(&rig);
    let at_home = rig.submit(Numbered { device: Some(0), ..alone(3) });
    let anywhere = rig.submit(alone(4));
    rig.end_on(1, End::Answers);
    assert_eq!((rig.next_pass(), rig.latest.get()), (vec![4], 1));
    rig.end_on(0, End::Answers);
    assert_eq!((rig.next_pass(), rig.latest.get()), (vec![3], 0));
    rig.end_both();
    assert_eq!([at_home, anywhere].map(answer), [30, 40]);
}

#[test]
fn a_pass_that_fails_on_one_device_leaves_the_other_and_the_next_alone() {
    let rig = two();
    let [on_first, on_second] = occupy_both(&rig);
    let next = rig.submit(alone(3));
    rig.end_on(0, End::Fails);
    assert_eq!(outcome(on_first).expect_err("it failed").kind(), ErrorKind::Invalid);
    assert_eq!((rig.next_pass(), rig.latest.get()), (vec![3], 0));
    rig.end_on(0, End::Panics);
    assert_eq!(outcome(next).expect_err("it panicked").kind(), ErrorKind::Internal);
    rig.end_on(1, End::Answers);
    answer(on_second);
    let last = rig.occupy(5);
    rig.end(End::Answers);
    assert_eq!(answer(last), 50);
}

#[test]
fn one_device_waits_for_the_input_of_a_tile_and_the_other_goes_on() {
    let rig = two();
    let tile = rig.scheduler.enter(&rig.caller(Class::Tile, rig.client), Rig::work(1)).expect("there is room");
    let turn = block_on(tile.turn()).expect("it may read");
    let uploads = [2, 3].map(|number| rig.submit(alone(number)));
    assert_eq!(rig.next_pass(), [2]);
    let beside = rig.latest.get();
    let mut tile: Asking = Box::pin(turn.run(alone(1)));
    assert!((&mut tile).now_or_never().is_none());
    assert_eq!(rig.next_pass(), [1], "before the upload that has been ready for longer");
    assert_ne!(rig.latest.get(), beside);
    rig.end(End::Answers);
    assert_eq!(rig.next_pass(), [3]);
    rig.end_both();
    assert_eq!(uploads.map(answer), [20, 30]);
}

#[test]
fn estimates_know_that_devices_work_side_by_side() {
    let rig = two();
    rig.measure(1);
    let _under_way = occupy_both(&rig);
    let caller = |number: u32| rig.caller(Class::Upload, ClientId::named(number));
    let expected = |passes| rig.scheduler.expected(&caller(9), &Rig::work(passes)).as_secs_f64();
    // A second is left of both passes under way.
    assert_eq!([1, 2, 3].map(expected), [2.0, 2.0, 3.0]);
    let _place = rig.scheduler.enter(&caller(1), Rig::work(4)).expect("there is room");
    // Others get as much time as the newcomer wants.
    assert_eq!([1, 4].map(expected), [1.5 + 1.0, 3.0 + 2.0]);
    assert_eq!(rig.scheduler.busy_for(), 3 * SECOND);
    rig.end_both();
}

#[test]
fn a_scene_whose_windows_are_under_way_fills_every_batch() {
    const WINDOWS: u32 = 24;
    for devices in [1, 2] {
        let rig = Rig::on(devices, BatchOptions { queue_capacity: 1, max_batch: 4, max_delay: HOUR });
        let place = rig.scheduler.enter(&rig.caller(Class::Job, rig.client), Rig::work(WINDOWS as usize)).expect("room");
        let place = &place;
        let window = |number| async move { place.turn().await?.run(shaped(number, 'a')).await };
        let mut answers = futures::stream::iter(0..WINDOWS).map(window).buffered(2 * 4 * devices);
        let mut answered = Vec::new();
        let patience = Instant::now() + PATIENCE;
        for _ in 0..WINDOWS as usize / (4 * devices) {
            let mut running = BTreeSet::new();
            while running.len() < devices {
                assert!(Instant::now() < patience, "only {running:?} of {devices} have a full batch");
                // Asks for turns, reads and hands over as far as it gets.
                while let Some(Some(answer)) = answers.next().now_or_never() {
                    answered.push(answer.expect("an answer").answer);
                }
                if let Ok((device, batch)) = rig.started.try_recv() {
                    assert_eq!(batch.len(), 4, "{batch:?}");
                    running.insert(device);
                }
                std::thread::yield_now();
            }
            running.into_iter().for_each(|device| rig.end_on(device, End::Answers));
        }
        answered.extend(block_on(answers.map(|answer| answer.expect("an answer").answer).collect::<Vec<_>>()));
        assert_eq!(answered, (0..WINDOWS).map(|number| number * 10).collect::<Vec<_>>());
    }
}
