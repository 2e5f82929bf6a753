//! `spin:key-value`, `fermyon:spin/key-value` and `wasi:keyvalue`: doors to the one
//! store.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Accessor, Destination, FutureReader, HasData, Resource, ResourceTable, StreamProducer,
    StreamReader, StreamResult,
};

use super::bindings::{atomics, fermyon_key_value, spin_key_value, wasi_store};
use crate::store::{Handle as SwapHandle, Listing, Store, StoreError, Swapped};

/// The only store there is.
const LABEL: &str = "default";

/// Most stores that an instance may have open, and most compare-and-swap
/// handles that it may hold, those among them that an imitated platform forgets
/// to free. Spin's own tables have room for more than an instance ever fills;
/// with a bound, a component that relies on that is found out. A handle of its
/// Redis store holds a connection, and Redis has a bound on those.
const OPEN_MAX: usize = 256;

/// Runs a call of the guest. Where the imitated platform blocks the thread that polls
/// the instance, so does this: no other task of the instance goes on before its end.
async fn run<T>(store: &Store, call: impl Future<Output = T>) -> T {
    if !store.behaviour().stops_instances() {
        return call.await;
    }
    tokio::task::block_in_place(|| Handle::current().block_on(call))
}

/// The names of a listing for the guest, as they come.
struct Names(mpsc::Receiver<String>);

impl<D> StreamProducer<D> for Names {
    type Item = String;
    type Buffer = Option<String>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, String, Option<String>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        Poll::Ready(Ok(match self.0.poll_recv(context) {
            Poll::Ready(Some(name)) => {
                destination.set_buffer(Some(name));
                StreamResult::Completed
            }
            Poll::Ready(None) => StreamResult::Dropped,
            Poll::Pending if finish => StreamResult::Cancelled,
            Poll::Pending => return Poll::Pending,
        }))
    }
}

/// An open store. There is one store, so this is only the right to use it.
#[derive(Debug)]
#[allow(
    unreachable_pub,
    reason = "the generated bindings re-export it as public"
)]
pub struct OpenStore(());

/// A compare-and-swap that the guest has under way.
#[derive(Debug)]
#[allow(
    unreachable_pub,
    reason = "the generated bindings re-export it as public"
)]
pub struct Cas(SwapHandle);

/// What the host keeps for one instance about its store.
#[derive(Debug)]
pub(super) struct KeyValueState {
    pub(super) store: Store,
    open_stores: usize,
    open_handles: usize,
    /// Handles that a swap consumed and that an imitated platform forgets to
    /// free, with their connections.
    leaked_handles: Vec<SwapHandle>,
}

impl KeyValueState {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            open_stores: 0,
            open_handles: 0,
            leaked_handles: Vec::new(),
        }
    }
}

/// [`KeyValueState`] with the table that its handles are in.
#[derive(Debug)]
pub(crate) struct KeyValueView<'a> {
    pub(super) state: &'a mut KeyValueState,
    pub(super) table: &'a mut ResourceTable,
}

/// Names [`KeyValueView`] to the linker.
#[derive(Debug)]
pub(super) struct KeyValue;

impl HasData for KeyValue {
    type Data<'a> = KeyValueView<'a>;
}

impl KeyValueView<'_> {
    /// A new handle to the store; none if the instance has too many.
    pub(super) fn push_store(&mut self) -> wasmtime::Result<Option<Resource<OpenStore>>> {
        if self.state.open_stores == OPEN_MAX {
            return Ok(None);
        }
        let opened = self.table.push(OpenStore(()))?;
        self.state.open_stores += 1;
        Ok(Some(opened))
    }

    pub(super) fn drop_store(&mut self, store: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        self.state.open_stores -= 1;
        Ok(())
    }

    fn push_handle(
        &mut self,
        handle: SwapHandle,
    ) -> wasmtime::Result<Result<Resource<Cas>, wasi_store::Error>> {
        if self.state.open_handles + self.state.leaked_handles.len() >= OPEN_MAX {
            return Ok(Err(wasi_store::Error::Other(format!(
                "more than {OPEN_MAX} compare-and-swap handles in one instance"
            ))));
        }
        let handle = self.table.push(Cas(handle))?;
        self.state.open_handles += 1;
        Ok(Ok(handle))
    }

    fn take_handle(&mut self, handle: Resource<Cas>) -> wasmtime::Result<SwapHandle> {
        let Cas(handle) = self.table.delete(handle)?;
        self.state.open_handles -= 1;
        Ok(handle)
    }
}

/// An error of the store in the words of an interface; the outer error is the
/// guest's end.
trait Answer<T, E> {
    fn answer(self) -> wasmtime::Result<Result<T, E>>;
}

impl<T> Answer<T, spin_key_value::Error> for Result<T, StoreError> {
    fn answer(self) -> wasmtime::Result<Result<T, spin_key_value::Error>> {
        match self {
            Ok(value) => Ok(Ok(value)),
            Err(
                StoreError::Other(text)
                | StoreError::Down(text)
                | StoreError::Limited(text)
                | StoreError::NotANumber(text),
            ) => Ok(Err(spin_key_value::Error::Other(text))),
            Err(StoreError::Abort(text)) => Err(wasmtime::Error::msg(text)),
        }
    }
}

impl<T> Answer<T, fermyon_key_value::Error> for Result<T, StoreError> {
    fn answer(self) -> wasmtime::Result<Result<T, fermyon_key_value::Error>> {
        match self {
            Ok(value) => Ok(Ok(value)),
            Err(
                StoreError::Other(text)
                | StoreError::Down(text)
                | StoreError::Limited(text)
                | StoreError::NotANumber(text),
            ) => Ok(Err(fermyon_key_value::Error::Other(text))),
            Err(StoreError::Abort(text)) => Err(wasmtime::Error::msg(text)),
        }
    }
}

impl<T> Answer<T, wasi_store::Error> for Result<T, StoreError> {
    fn answer(self) -> wasmtime::Result<Result<T, wasi_store::Error>> {
        match self {
            Ok(value) => Ok(Ok(value)),
            Err(
                StoreError::Other(text)
                | StoreError::Down(text)
                | StoreError::Limited(text)
                | StoreError::NotANumber(text),
            ) => Ok(Err(wasi_store::Error::Other(text))),
            Err(StoreError::Abort(text)) => Err(wasmtime::Error::msg(text)),
        }
    }
}

impl spin_key_value::Host for KeyValueView<'_> {}

impl spin_key_value::HostStore for KeyValueView<'_> {
    fn drop(&mut self, held: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.drop_store(held)
    }
}

/// The store behind a handle that the guest holds.
pub(super) fn store_of<T>(
    accessor: &Accessor<T, KeyValue>,
    held: &Resource<OpenStore>,
) -> wasmtime::Result<Store> {
    accessor.with(|mut access| {
        let view = access.get();
        view.table.get(held)?;
        Ok(view.state.store.clone())
    })
}

impl<T> spin_key_value::HostStoreWithStore<T> for KeyValue {
    async fn open(
        accessor: &Accessor<T, Self>,
        label: String,
    ) -> wasmtime::Result<Result<Resource<OpenStore>, spin_key_value::Error>> {
        if label != LABEL {
            return Ok(Err(spin_key_value::Error::AccessDenied));
        }
        let store = accessor.with(|mut access| access.get().state.store.clone());
        if let Err(error) = store.check().await {
            return Err(error).answer();
        }
        let opened = accessor.with(|mut access| access.get().push_store())?;
        Ok(opened.ok_or(spin_key_value::Error::StoreTableFull))
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        held: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, spin_key_value::Error>> {
        let store = store_of(accessor, &held)?;
        run(&store, store.get(&key)).await.answer()
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        held: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), spin_key_value::Error>> {
        let store = store_of(accessor, &held)?;
        run(&store, store.set(&key, &value)).await.answer()
    }

    async fn delete(
        accessor: &Accessor<T, Self>,
        held: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<(), spin_key_value::Error>> {
        let store = store_of(accessor, &held)?;
        run(&store, store.delete(&key)).await.answer()
    }

    async fn get_keys(
        accessor: &Accessor<T, Self>,
        held: Resource<OpenStore>,
    ) -> wasmtime::Result<(
        StreamReader<String>,
        FutureReader<Result<(), spin_key_value::Error>>,
    )> {
        let (names, over): Listing = store_of(accessor, &held)?.listing();
        let outcome = async move {
            let outcome = over
                .await
                .unwrap_or_else(|_| Err(StoreError::Other("the listing ended early".to_owned())));
            outcome.answer()
        };
        accessor.with(|mut access| {
            Ok((
                StreamReader::new(&mut access, Names(names))?,
                FutureReader::new(&mut access, outcome)?,
            ))
        })
    }
}

impl fermyon_key_value::Host for KeyValueView<'_> {}

impl fermyon_key_value::HostStore for KeyValueView<'_> {
    async fn open(
        &mut self,
        label: String,
    ) -> wasmtime::Result<Result<Resource<OpenStore>, fermyon_key_value::Error>> {
        if label != LABEL {
            return Ok(Err(fermyon_key_value::Error::AccessDenied));
        }
        if let Err(error) = self.state.store.check().await {
            return Err(error).answer();
        }
        let opened = self.push_store()?;
        Ok(opened.ok_or(fermyon_key_value::Error::StoreTableFull))
    }

    async fn get(
        &mut self,
        held: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, fermyon_key_value::Error>> {
        self.table.get(&held)?;
        self.state.store.get(&key).await.answer()
    }

    async fn set(
        &mut self,
        held: Resource<OpenStore>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), fermyon_key_value::Error>> {
        self.table.get(&held)?;
        self.state.store.set(&key, &value).await.answer()
    }

    async fn delete(
        &mut self,
        held: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<(), fermyon_key_value::Error>> {
        self.table.get(&held)?;
        self.state.store.delete(&key).await.answer()
    }

    async fn get_keys(
        &mut self,
        held: Resource<OpenStore>,
    ) -> wasmtime::Result<Result<Vec<String>, fermyon_key_value::Error>> {
        self.table.get(&held)?;
        self.state.store.keys().await.answer()
    }

    async fn drop(&mut self, held: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.drop_store(held)
    }
}

impl wasi_store::Host for KeyValueView<'_> {
    async fn open(
        &mut self,
        identifier: String,
    ) -> wasmtime::Result<Result<Resource<OpenStore>, wasi_store::Error>> {
        if identifier != LABEL {
            return Ok(Err(wasi_store::Error::AccessDenied));
        }
        if let Err(error) = self.state.store.check().await {
            return Err(error).answer();
        }
        Ok(self
            .push_store()?
            .ok_or_else(|| wasi_store::Error::Other("store table full".to_owned())))
    }
}

impl wasi_store::HostBucket for KeyValueView<'_> {
    async fn list_keys(
        &mut self,
        held: Resource<OpenStore>,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<wasi_store::KeyResponse, wasi_store::Error>> {
        self.table.get(&held)?;
        if cursor.is_some() {
            // There is one page only, as on Spin.
            return Ok(Err(wasi_store::Error::Other(
                "list-keys: cursor not supported".to_owned(),
            )));
        }
        let store = &self.state.store;
        let keys = run(store, store.keys()).await;
        keys.map(|keys| wasi_store::KeyResponse { keys, cursor: None })
            .answer()
    }

    async fn drop(&mut self, held: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.drop_store(held)
    }
}

impl atomics::HostCas for KeyValueView<'_> {
    async fn new(
        &mut self,
        held: Resource<OpenStore>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Cas>, wasi_store::Error>> {
        self.table.get(&held)?;
        match self.state.store.handle(&key).await {
            Ok(handle) => self.push_handle(handle),
            Err(error) => Err(error).answer(),
        }
    }

    async fn current(
        &mut self,
        held: Resource<Cas>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, wasi_store::Error>> {
        let store = &self.state.store;
        let handle = &mut self.table.get_mut(&held)?.0;
        run(store, handle.current()).await.answer()
    }

    async fn drop(&mut self, held: Resource<Cas>) -> wasmtime::Result<()> {
        self.take_handle(held).map(drop)
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(
        &mut self,
        held: Resource<OpenStore>,
        key: String,
        delta: i64,
    ) -> wasmtime::Result<Result<i64, wasi_store::Error>> {
        self.table.get(&held)?;
        let store = &self.state.store;
        run(store, store.increment(&key, delta)).await.answer()
    }

    async fn swap(
        &mut self,
        held: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let mut handle = self.take_handle(held)?;
        let outcome = run(&self.state.store, handle.swap(&value)).await;
        if self.state.store.behaviour().leaks_handles() {
            self.state.leaked_handles.push(handle);
        }
        Ok(match outcome.answer()? {
            Ok(Swapped::Done) => Ok(()),
            Ok(Swapped::Lost(next)) => match self.push_handle(next)? {
                Ok(next) => Err(atomics::CasError::CasFailed(next)),
                Err(error) => Err(atomics::CasError::StoreError(error)),
            },
            Err(error) => Err(atomics::CasError::StoreError(error)),
        })
    }
}
