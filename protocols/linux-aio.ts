/** linux/aio_abi.h: requests of io_submit(2), and what io_getevents(2) says of those that ended. */
import { addr64, i32, struct, u16, u32, u64 } from './layout.ts';

export const IOCB_CMD_PREAD = 0;
/** Signal the eventfd `aio_resfd` when the request ends. */
export const IOCB_FLAG_RESFD = 1;

export const iocb = struct('iocb', {
  aio_data: u64,
  aio_key: u32,
  aio_rw_flags: i32,
  aio_lio_opcode: u16,
  aio_reqprio: u16,
  aio_fildes: u32,
  aio_buf: addr64,
  aio_nbytes: addr64,
  aio_offset: u64,
  aio_reserved2: u64,
  aio_flags: u32,
  aio_resfd: u32,
});

export const io_event = struct('io_event', { data: u64, obj: u64, res: u64, res2: u64 });
