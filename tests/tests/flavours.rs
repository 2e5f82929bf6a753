//! The other flavours of the component, on their hosts or on this one.
//!
//! | test | what it shows |
//! | --- | --- |
//! | `wasmtime_serve_…` | the flavour `wasi`: one request per key and instance, stale answers, also while the origin is down |
//! | `two_wash_dev_…` | the flavour `wasmcloud`, two nodes on one store |
//! | `spin_sqlite_…`, `spin_redis_…`, `wasmcloud_…` | these flavours, four nodes of the embedded host on one store |
//!
//! Where nodes share a store: 100 visitors are one request at the origin, for a cold key
//! and for an expired one; nobody notices that the origin is down; another node takes
//! over from one that was killed while it fetched.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod flavours {
    use std::time::{Duration, Instant};

    use http::StatusCode;
    use leeward_tests::client::{Reply, ask, assert_all_got, get};
    use leeward_tests::foreign::{Backend, ForeignWorld};
    use leeward_tests::origin::numbered;
    use leeward_tests::{Answer, Ask, Crowd, Gate, Settings, wait};

    /// Visitors at one moment.
    const CROWD: usize = 100;

    /// As wasmCloud's Redis store needs them: it shows a write up to 250 ms late, and a
    /// lease is at least 15 times as long.
    fn settings() -> Settings {
        Settings {
            lease: Duration::from_secs(5),
            clock_skew: Duration::from_millis(500),
            ..Settings::default()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_wash_dev_on_a_redis_server() {
        let world = ForeignWorld::wasmcloud(Backend::redis().await, settings()).await;
        all_scenarios(world).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_wash_dev_on_a_nats_server() {
        let world = ForeignWorld::wasmcloud(Backend::nats().await, settings()).await;
        all_scenarios(world).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn spin_sqlite_on_four_nodes() {
        let backend = Backend::sqlite();
        let world = ForeignWorld::embedded("spin-sqlite", backend, Settings::default()).await;
        all_scenarios(world).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn spin_redis_on_four_nodes_and_a_redis_server() {
        let backend = Backend::redis().await;
        let world = ForeignWorld::embedded("spin-redis", backend, Settings::default()).await;
        all_scenarios(world).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn wasmcloud_on_four_nodes() {
        let backend = Backend::sqlite();
        let world = ForeignWorld::embedded("wasmcloud", backend, Settings::default()).await;
        all_scenarios(world).await;
    }

    /// One after the other on one world: a host compiles the component for some
    /// seconds.
    async fn all_scenarios(mut world: ForeignWorld) {
        cold_key(&world).await;
        expiry(&world).await;
        origin_down(&world).await;
        crash(&mut world).await;
    }

    async fn cold_key(world: &ForeignWorld) {
        let (path, gate) = ("/cold", Gate::closed());
        let answer = Answer::numbered().max_age(600).gate(&gate);
        world.origin.always(path, answer);
        let crowd = Crowd::connect(&world.all(), CROWD).await;
        let ask = Ask::get(path);
        let asking = tokio::spawn(async move { crowd.ask(&ask).await });
        world.origin.until_count(path, 1, wait::SOON).await;
        let a_while = Duration::from_secs(2);
        wait::throughout("one fetch is under way", a_while, async || {
            world.origin.count(path) == 1
        })
        .await;
        gate.open();
        assert_all_got(&asking.await.unwrap(), CROWD, &numbered(path, 1));
        assert_eq!(world.origin.count(path), 1, "requests at the origin");
    }

    async fn expiry(world: &ForeignWorld) {
        let (path, gate) = ("/expiry", Gate::closed());
        let (old, new) = (numbered(path, 1), numbered(path, 2));
        world.origin.next(path, Answer::numbered().max_age(2));
        let refreshed = Answer::numbered().max_age(600).gate(&gate);
        world.origin.always(path, refreshed);
        get(world.node(0), path).await;
        let answered = Instant::now();
        until_body(world, path, &old).await;
        let crowd = Crowd::connect(&world.all(), CROWD).await;
        wait::until_past(answered + Duration::from_secs(2)).await;
        // The origin holds its answer back, so nobody can have waited for it.
        let replies = crowd.ask(&Ask::get(path)).await;
        assert_all_got(&replies, CROWD, &old);
        world.origin.until_count(path, 2, wait::SOON).await;
        let a_while = Duration::from_secs(1);
        wait::throughout("one refresh is under way", a_while, async || {
            world.origin.count(path) == 2
        })
        .await;
        gate.open();
        until_body(world, path, &new).await;
        assert_eq!(world.origin.count(path), 2, "requests at the origin");
    }

    async fn origin_down(world: &ForeignWorld) {
        let path = "/down";
        let old = numbered(path, 1);
        world.origin.next(path, Answer::numbered().max_age(1));
        world.origin.always(path, Answer::numbered().max_age(600));
        get(world.node(0), path).await;
        let answered = Instant::now();
        until_body(world, path, &old).await;
        world.origin.crash();
        wait::until_past(answered + Duration::from_secs(1)).await;
        let replies = Crowd::connect(&world.all(), CROWD).await;
        assert_all_got(&replies.ask(&Ask::get(path)).await, CROWD, &old);
        world.origin.recover();
        for node in world.all() {
            wait::until("the recovery is noticed", wait::SOON * 2, async || {
                let reply = get(node, path).await;
                assert_eq!(reply.status, StatusCode::OK, "{reply}");
                (reply.text() != old).then_some(())
            })
            .await;
        }
    }

    /// SIGKILL of the node whose refresh is under way: the other serves what is stored,
    /// and takes over after a lease.
    async fn crash(world: &mut ForeignWorld) {
        let (path, gate) = ("/crash", Gate::closed());
        let old = numbered(path, 1);
        world.origin.next(path, Answer::numbered().max_age(1));
        let refreshed = Answer::numbered().max_age(600).gate(&gate);
        world.origin.always(path, refreshed);
        get(world.node(0), path).await;
        let answered = Instant::now();
        until_body(world, path, &old).await;
        wait::until_past(answered + Duration::from_secs(1)).await;
        let asked = Instant::now();
        assert_eq!(get(world.node(0), path).await.text(), old);
        world.origin.until_count(path, 2, wait::SOON).await;
        world.process(0).kill();
        let other = world.node(1);
        wait::until("the other node takes over", wait::SOON * 2, async || {
            let reply = get(other, path).await;
            assert_eq!(reply.text(), old, "{reply}");
            (world.origin.count(path) == 3).then_some(())
        })
        .await;
        let took_over = world.origin.record(path).arrivals.pop().unwrap().at;
        // Nodes read their clocks in whole milliseconds.
        let lease = world.settings.lease - Duration::from_millis(5);
        assert!(took_over - asked >= lease, "{:?}", took_over - asked);
        gate.open();
        wait::until("the new answer is stored", wait::SOON, async || {
            let reply = get(other, path).await;
            (reply.text() == numbered(path, 3)).then_some(())
        })
        .await;
        assert_eq!(world.origin.count(path), 3, "requests at the origin");
    }

    /// Waits until every node has this body.
    async fn until_body(world: &ForeignWorld, path: &str, body: &str) {
        for node in world.all() {
            let what = format!("{node} answers {path} with {body:?}");
            wait::until(&what, wait::SOON, async || {
                (get(node, path).await.text() == body).then_some(())
            })
            .await;
        }
    }

    /// The host begins instances as it likes, and each has its own memory.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn wasmtime_serve_asks_once_per_instance_and_serves_stale_answers() {
        let world = ForeignWorld::wasmtime(Settings::default()).await;
        // Before the crowd: it makes the host begin instances, and requests go to one
        // after the other from then on.
        stale_is_served(&world, "refreshed").await;
        stale_is_served(&world, "down").await;
        world.origin.recover();
        what_the_host_refuses(&world).await;
        let (path, gate) = ("/cold", Gate::closed());
        let answer = Answer::numbered().max_age(600).gate(&gate);
        world.origin.always(path, answer);
        let crowd = Crowd::connect(&world.all(), CROWD).await;
        let ask = Ask::get(path);
        let asking = tokio::spawn(async move { crowd.ask(&ask).await });
        world.origin.until_count(path, 1, wait::SOON).await;
        gate.open();
        for reply in asking.await.unwrap() {
            let reply = reply.unwrap();
            assert_eq!(reply.status, StatusCode::OK, "{reply}");
        }
        let (asked, instances) = (world.origin.count(path), world.instances());
        assert!((1..=instances).contains(&asked), "{asked} by {instances}");
        assert!(instances < CROWD, "an instance serves one visitor only");
    }

    /// A host made with wasmtime lets no component close its connections, and takes at most
    /// 128 KiB of fields.
    async fn what_the_host_refuses(world: &ForeignWorld) {
        // Not for everyone: the request itself would have to be forwarded.
        let private = Answer::numbered().cache_control("private");
        world.origin.always("/ntlm", private);
        let ntlm = Ask::get("/ntlm").header("authorization", "NTLM TlRMTVNTUAADAAAA");
        let reply = ask(world.node(0), &ntlm).await;
        assert_eq!(reply.status, StatusCode::NOT_IMPLEMENTED, "{reply}");
        let names = [
            "x-1", "x-2", "x-3", "x-4", "x-5", "x-6", "x-7", "x-8", "x-9", "x-10",
        ];
        let value = "x".repeat(14_000);
        let first = Answer::fixed("hello").max_age(600);
        let long = (names.into_iter()).fold(first, |answer, name| answer.header(name, &value));
        world.origin.always("/long", long);
        let reply = get(world.node(0), "/long").await;
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{reply}");
    }

    /// Fills, lets the entry expire, and asks again, until the instance that has the
    /// entry is the one that answers: there may be more than one.
    async fn stale_is_served(world: &ForeignWorld, name: &str) {
        let number = std::cell::Cell::new(0);
        wait::until("a stale answer is served", wait::SOON * 2, async || {
            number.set(number.get() + 1);
            let path = &format!("/{name}/{}", number.get());
            world.origin.recover();
            world.origin.always(path, Answer::numbered().max_age(1));
            let filled = get(world.node(0), path).await;
            let answered = Instant::now();
            if name == "down" {
                world.origin.crash();
            }
            wait::until_past(answered + Duration::from_secs(1)).await;
            let reply = get(world.node(0), path).await;
            let is_stale = |reply: &Reply| reply.cache_status().has("hit") && !reply.is_fresh_hit();
            (reply.text() == filled.text() && is_stale(&reply)).then_some(())
        })
        .await;
    }
}
