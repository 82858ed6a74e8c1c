use super::super::Resource;
use super::*;

/// A fake world: resources by type, as `(name, version)`.
#[derive(Default)]
struct World(HashMap<Kind, Vec<(&'static str, u64)>>);

impl World {
    fn set(&mut self, kind: Kind, resources: &[(&'static str, u64)]) {
        self.0.insert(kind, resources.to_vec());
    }

    fn get(&self, kind: Kind) -> ResourceSet {
        let resources = self.0.get(&kind).into_iter().flatten();
        let resource = |(name, version): &(&'static str, u64)| Resource {
            name: Arc::from(*name),
            version: *version,
            any: ferromesh_proto::Any { type_url: kind.type_url().into(), value: vec![0; 100].into() },
        };
        ResourceSet::new(resources.map(resource).collect())
    }
}

/// A session and the world that it shows.
struct Fixture {
    session: Session,
    world: World,
}

impl Fixture {
    fn new(protocol: Protocol) -> Self {
        Self { session: Session::new(protocol, Limits::default()), world: World::default() }
    }

    fn delta(world: &[(Kind, &[(&'static str, u64)])]) -> Self {
        let mut fixture = Self::new(Protocol::Delta);
        for (kind, resources) in world {
            fixture.world.set(*kind, resources);
        }
        fixture
    }

    fn sotw(world: &[(Kind, &[(&'static str, u64)])]) -> Self {
        let mut fixture = Self::delta(world);
        fixture.session = Session::new(Protocol::StateOfTheWorld, Limits::default());
        fixture
    }

    fn subscribe(&mut self, kind: Kind, names: &[&str]) {
        let subscribe = strings(names);
        let names = match self.session.protocol {
            Protocol::Delta => Names::Delta { subscribe, unsubscribe: Vec::new(), initial_versions: HashMap::new() },
            Protocol::StateOfTheWorld => Names::StateOfTheWorld(subscribe),
        };
        self.request(kind, "", None, names).unwrap();
    }

    fn unsubscribe(&mut self, kind: Kind, names: &[&str]) {
        let names =
            Names::Delta { subscribe: Vec::new(), unsubscribe: strings(names), initial_versions: HashMap::new() };
        self.request(kind, "", None, names).unwrap();
    }

    fn resume(&mut self, kind: Kind, names: &[&str], held: &[(&str, &str)]) {
        let initial_versions = held.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let names = Names::Delta { subscribe: strings(names), unsubscribe: Vec::new(), initial_versions };
        self.request(kind, "", None, names).unwrap();
    }

    fn request(&mut self, kind: Kind, nonce: &str, error: Option<&str>, names: Names) -> Result<Answer, SessionError> {
        self.session.on_request(Request { kind, nonce: nonce.into(), error: error.map(Into::into), names })
    }

    /// The answer to `push`, as a client sends it (state of the world: with its names).
    fn answer(&mut self, push: &Push, error: Option<&str>) -> Answer {
        let names = match self.session.protocol {
            Protocol::Delta => {
                Names::Delta { subscribe: Vec::new(), unsubscribe: Vec::new(), initial_versions: HashMap::new() }
            }
            Protocol::StateOfTheWorld => {
                let wanted = self.session.wanted(push.kind);
                let star = wanted.wildcard.then(|| "*".to_owned());
                Names::StateOfTheWorld(wanted.names.iter().map(|name| name.to_string()).chain(star).collect())
            }
        };
        self.request(push.kind, &push.nonce, error, names).unwrap()
    }

    fn ack(&mut self, push: &Push) {
        assert_eq!(self.answer(push, None), Answer::Ack);
    }

    fn change(&mut self, kind: Kind, resources: &[(&'static str, u64)]) {
        self.world.set(kind, resources);
        self.session.on_change(Kinds::NONE.with(kind));
    }

    /// What is sent now.
    fn push(&mut self) -> Option<Push> {
        while let Some(due) = self.session.next() {
            let set = self.world.get(due.kind);
            if let Some(push) = self.session.respond(due, &set) {
                return Some(push);
            }
        }
        None
    }

    /// What is sent now, as text: `cds +a +b -c`.
    fn sends(&mut self) -> String {
        self.push().map(|push| text(&push)).unwrap_or_default()
    }

    /// What is sent until nothing is left, each answered with an ACK.
    fn drain(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        loop {
            match self.push() {
                Some(push) => {
                    sent.push(text(&push));
                    self.ack(&push);
                }
                None if self.session.is_settling() => self.session.settled(),
                None => return sent,
            }
        }
    }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn text(push: &Push) -> String {
    let mut text = push.kind.to_string();
    for resource in &push.resources {
        text += &format!(" +{}", resource.name);
    }
    for name in &push.removed {
        text += &format!(" -{name}");
    }
    text
}

mod delta;
mod order;
mod sotw;
