//! What is proven: one function for each real-time safe operation.

use ringmain::lane::Received;
use ringmain::{LaneCounters, LaneDuplex, LaneError, LaneGroup, LaneReceiver, LaneSender, LatestReader, LatestWriter};

/// Dropped by a panic alone. Left in a function, it names what the linker does not find.
struct Left;

impl Drop for Left {
    #[inline(always)]
    fn drop(&mut self) {
        unsafe extern "C" {
            fn a_panic_is_left_in_this_function();
        }
        // SAFETY: never called: a program that could does not link.
        unsafe { a_panic_is_left_in_this_function() }
    }
}

macro_rules! proven {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $body:block)*) => {
        $(
            #[inline(never)]
            // The name by which the linker and callgrind know it.
            #[allow(clippy::redundant_closure_call, reason = "what leaves it early does not pass the guard by")]
            #[unsafe(export_name = concat!("proven_", stringify!($name)))]
            pub(crate) fn $name($($argument: $type),*) -> $result {
                let left = Left;
                let result = (move || $body)();
                std::mem::forget(left);
                result
            }
        )*
        pub(crate) const COUNT: usize = [$(stringify!($name)),*].len();
    };
}

type Result<T> = std::result::Result<T, LaneError>;

macro_rules! all {
    ($($type:ty: $send:ident $recv:ident $batch:ident $drop:ident $loan:ident $peek:ident $write:ident $write_loan:ident
        $read:ident $take:ident;)* => $($rest:tt)*) => {
        proven! {
            $(
                fn $send(sender: &mut LaneSender<$type>, record: &$type) -> Result<()> {
                    sender.try_send(record)
                }
                fn $recv(receiver: &mut LaneReceiver<$type>, to: &mut $type) -> Result<Option<Received>> {
                    receiver.try_recv(to)
                }
                fn $batch(sender: &mut LaneSender<$type>, record: &$type) -> Result<()> {
                    let mut batch = sender.batch();
                    let pushed = (batch.push(record), batch.push(record), batch.push(record));
                    batch.commit();
                    pushed.0.and(pushed.1).and(pushed.2)
                }
                fn $drop(sender: &mut LaneSender<$type>, record: &$type) -> Result<()> {
                    let mut batch = sender.batch();
                    batch.push(record)?;
                    batch.push(record)
                }
                fn $loan(sender: &mut LaneSender<$type>, record: &$type) -> Result<()> {
                    let mut loan = sender.loan()?;
                    loan.write(record);
                    loan.commit();
                    Ok(())
                }
                fn $peek(receiver: &mut LaneReceiver<$type>, to: &mut $type) -> Result<Option<Received>> {
                    let Some(record) = receiver.peek()? else { return Ok(None) };
                    record.copy_to(to)?;
                    Ok(Some(record.release()))
                }
                fn $write(writer: &mut LatestWriter<$type>, value: &$type) -> Result<()> {
                    writer.write(value)
                }
                fn $write_loan(writer: &mut LatestWriter<$type>, _value: &$type) -> Result<()> {
                    let mut loan = writer.loan()?;
                    loan.write_at(1, &[1; 7])?;
                    loan.commit();
                    Ok(())
                }
                fn $read(reader: &mut LatestReader<$type>, to: &mut $type) -> Result<Option<Received>> {
                    reader.read(to)
                }
                fn $take(reader: &mut LatestReader<$type>, to: &mut $type) -> Result<Option<Received>> {
                    let taken = reader.take()?;
                    reader.copy_to(to)?;
                    Ok(taken)
                }
            )*
            $($rest)*
        }
    };
}

type Block = [f32; 64];

all! {
    u64: send_8 recv_8 batch_8 batch_dropped_8 loan_8 peek_8 write_8 write_loan_8 read_8 take_8;
    [u64; 8]: send_64 recv_64 batch_64 batch_dropped_64 loan_64 peek_64 write_64 write_loan_64 read_64 take_64;
    [u8; 4096]: send_4096 recv_4096 batch_4096 batch_dropped_4096 loan_4096 peek_4096 write_4096 write_loan_4096 read_4096
        take_4096;
    =>
    fn send_bytes(sender: &mut LaneSender<[u8]>, record: &[u8]) -> Result<()> {
        sender.try_send(record)
    }
    fn loan_bytes(sender: &mut LaneSender<[u8]>, record: &[u8]) -> Result<()> {
        let mut loan = sender.loan()?;
        loan.write_at(0, record)?;
        loan.commit(record.len())
    }
    fn recv_bytes(receiver: &mut LaneReceiver<[u8]>, to: &mut [u8]) -> Result<Option<Received>> {
        receiver.try_recv(to)
    }
    fn peek_bytes(receiver: &mut LaneReceiver<[u8]>, to: &mut [u8]) -> Result<Option<Received>> {
        let Some(record) = receiver.peek()? else { return Ok(None) };
        if !record.is_empty() {
            record.copy_to(to)?;
        }
        Ok(Some(record.release()))
    }
    fn write_bytes(writer: &mut LatestWriter<[u8]>, value: &[u8]) -> Result<()> {
        writer.write(value)
    }
    fn write_loan_bytes(writer: &mut LatestWriter<[u8]>, value: &[u8]) -> Result<()> {
        let mut loan = writer.loan()?;
        loan.write_at(0, value)?;
        loan.commit(value.len())
    }
    fn read_bytes(reader: &mut LatestReader<[u8]>, to: &mut [u8]) -> Result<Option<Received>> {
        reader.read(to)
    }
    fn take_bytes(reader: &mut LatestReader<[u8]>, to: &mut [u8]) -> Result<Option<Received>> {
        let taken = reader.take()?;
        reader.copy_to(to)?;
        Ok(taken)
    }
    fn request(host: &mut LaneDuplex<Block, Block>, block: &Block) -> Result<()> {
        host.send_request(block)
    }
    fn request_loan(host: &mut LaneDuplex<Block, Block>, block: &Block) -> Result<()> {
        let mut loan = host.loan_request()?;
        loan.write(block);
        loan.commit();
        Ok(())
    }
    fn take_request(plugin: &mut LaneDuplex<Block, Block>, block: &mut Block) -> Result<Option<Received>> {
        plugin.try_recv_request(block)
    }
    fn take_response(host: &mut LaneDuplex<Block, Block>, block: &mut Block) -> Result<Option<Received>> {
        host.try_recv_response(block)
    }
    fn response(plugin: &mut LaneDuplex<Block, Block>, block: &Block) -> Result<()> {
        plugin.send_response(block)
    }
    fn group_start(group: &mut LaneGroup<Block, Block>, block: &Block) -> Result<()> {
        group.start(0, block).and(group.start(9, block))
    }
    fn group_response(group: &mut LaneGroup<Block, Block>) -> Result<f32> {
        group.response(0).map(|block| block[0])
    }
    fn sender_state(sender: &mut LaneSender<u64>) -> u64 {
        sender.stats().sent + sender.room() as u64 + u64::from(sender.is_open()) + u64::from(sender.is_full())
    }
    fn receiver_state(receiver: &mut LaneReceiver<u64>, counters: &LaneCounters) -> u64 {
        receiver.stats().received + u64::from(receiver.is_open()) + counters.stats().lost + u64::from(counters.is_open())
    }
    fn writer_state(writer: &mut LatestWriter<u64>) -> u64 {
        writer.stats().sent + u64::from(writer.is_open())
    }
    fn reader_state(reader: &mut LatestReader<u64>) -> u64 {
        reader.stats().received + u64::from(reader.is_open())
    }
    fn duplex_state(duplex: &mut LaneDuplex<u64, u64>) -> u64 {
        duplex.stats().received + u64::from(duplex.is_open())
    }
}

/// What must not link.
#[cfg(feature = "panics")]
#[inline(never)]
pub(crate) fn panics(at: usize) -> u8 {
    let left = Left;
    let byte = [1, 2, 3][at];
    std::mem::forget(left);
    byte
}
