use std::collections::BTreeSet;
use std::pin::pin;

use futures::{Stream, StreamExt, stream};
use tokio::time::timeout;
use windlass_cluster::Namespaces;
use windlass_core::cluster::{CreateAnswer, DeleteAnswer, PodEvent};
use windlass_core::ids::{Attempt, PodUid};
use windlass_lab::control_plane::{ControlPlane, Options};

use crate::{LIMIT, admin, installation, launch, pod};

const FIRST: Attempt = Attempt::FIRST;

/// The next event that is no interruption: a real API server cuts watchers under load.
async fn next(events: &mut (impl Stream<Item = PodEvent> + Unpin)) -> PodEvent {
    loop {
        match timeout(LIMIT, events.next()).await.expect("an event in time").unwrap() {
            PodEvent::Interrupted { .. } => {}
            event => return event,
        }
    }
}

#[tokio::test]
async fn a_watch_tells_each_pod_of_this_installation_and_no_other() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    plane.create_namespace("one").await.unwrap();
    plane.create_namespace("two").await.unwrap();
    let cluster = admin(&plane).await;
    let create = async |namespace: &str, number: usize| {
        let (name, mine) = (format!("p{number}"), launch(number));
        match cluster.create(&pod(namespace, &name, &mine), &mine, FIRST, LIMIT).await {
            CreateAnswer::Created(view) => *view,
            other => panic!("{other:?}"),
        }
    };
    let before = [create("one", 1).await, create("two", 2).await];
    let mut foreign = pod("one", "foreign", &launch(3));
    foreign["metadata"]["labels"]["windlass.dev/installation"] = "00000000".into();
    cluster.create(&foreign, &launch(3), FIRST, LIMIT).await;
    let mut unreadable = pod("one", "unreadable", &launch(4));
    unreadable["metadata"]["labels"]["windlass.dev/launch"] = "mine".into();
    cluster.create(&unreadable, &launch(4), FIRST, LIMIT).await;

    let two = Namespaces::Only(vec!["one".into(), "two".into()]);
    let mut both = pin!(cluster.watch(&two, &installation()));
    let mut all = pin!(cluster.watch(&Namespaces::All, &installation()));
    let expected: BTreeSet<PodUid> = before.iter().map(|view| view.uid.clone()).collect();
    assert_eq!(list(&mut both).await, (expected.clone(), expected.clone()));
    assert_eq!(list(&mut all).await, (expected.clone(), expected));

    let later = create("two", 5).await;
    for events in [&mut both as &mut (dyn Stream<Item = PodEvent> + Unpin), &mut all] {
        let mut events = events;
        assert_eq!(next(&mut events).await, PodEvent::Seen(Box::new(later.clone())));
    }
    assert_eq!(cluster.delete(&later.pod, &later.uid, None, Some(0)).await, DeleteAnswer::Accepted);
    loop {
        match next(&mut both).await {
            PodEvent::Seen(view) => assert!(view.uid == later.uid, "{view:?}"),
            PodEvent::Deleted(view) => break assert_eq!(view.uid, later.uid),
            other => panic!("{other:?}"),
        }
    }
    a_burst_reaches_the_watch_whole(&cluster, &mut both).await;
}

/// What a list at the start of a watch tells: the pods seen, and the uids of `Listed`.
async fn list(events: &mut (impl Stream<Item = PodEvent> + Unpin)) -> (BTreeSet<PodUid>, BTreeSet<PodUid>) {
    let mut seen = BTreeSet::new();
    loop {
        match next(events).await {
            PodEvent::Seen(view) => seen.insert(view.uid),
            PodEvent::Listed(uids) => return (seen, uids.into_iter().collect()),
            other => panic!("{other:?}"),
        };
    }
}

/// A fresh API server forces slow watchers closed in a first burst: nothing of it may be missed.
async fn a_burst_reaches_the_watch_whole(
    cluster: &windlass_cluster::Cluster,
    events: &mut (impl Stream<Item = PodEvent> + Unpin),
) {
    const BURST: usize = 600;
    let creating = tokio::spawn({
        let cluster = cluster.clone();
        async move {
            let create = |number: usize| {
                let cluster = cluster.clone();
                async move {
                    let mine = launch(number);
                    let body = pod("one", &format!("b{number}"), &mine);
                    match cluster.create(&body, &mine, FIRST, LIMIT).await {
                        CreateAnswer::Created(view) => view.uid,
                        other => panic!("{other:?}"),
                    }
                }
            };
            let made: Vec<PodUid> =
                stream::iter((1_000..1_000 + BURST).map(create)).buffer_unordered(32).collect().await;
            made
        }
    });
    let mut seen = BTreeSet::new();
    while seen.len() < BURST {
        match next(events).await {
            PodEvent::Seen(view) => drop(seen.insert(view.uid)),
            PodEvent::Listed(_) => {}
            PodEvent::Deleted(view) => panic!("{view:?}"),
            PodEvent::Interrupted { .. } => unreachable!("left out by next"),
        }
    }
    assert_eq!(seen, creating.await.unwrap().into_iter().collect());
}
