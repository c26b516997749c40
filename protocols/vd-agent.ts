/**
 * The protocol of the SPICE guest agent: spice/vd_agent.h of spice-protocol, and its use in spice-vdagentd. Spoken over
 * the virtio-serial port `com.redhat.spice.0` between the host and stock agents.
 *
 * A message is a VDAgentMessage and its data. It travels in chunks, each behind a VDIChunkHeader; a chunk holds bytes of
 * one message. Everything is packed and little-endian.
 */
import { i32, struct, u32, u64 } from './layout.ts';

/** The name of the port in the guest. */
export const VD_AGENT_PORT = 'com.redhat.spice.0';

/** `VDIChunkHeader.port`: messages for the client, which is whatever has the user's clipboard, or the server. */
export const VDP_CLIENT_PORT = 1;
export const VDP_SERVER_PORT = 2;

export const VDIChunkHeader = struct('VDIChunkHeader', { port: u32, size: u32 }, { packed: true });

export const VD_AGENT_PROTOCOL = 1;
/** The largest chunk that the agent for Linux takes. It sends larger ones. */
export const VD_AGENT_MAX_DATA_SIZE = 2048;

/** `size` is that of the data that follow. */
export const VDAgentMessage = struct(
  'VDAgentMessage',
  { protocol: u32, type: u32, opaque: u64, size: u32 },
  { packed: true },
);

/** VD_AGENT_* messages that this project knows. */
export const VD_AGENT = {
  /** selection, u32 type, data */
  CLIPBOARD: 4,
  /** VDAgentAnnounceCapabilities, u32 caps[] */
  ANNOUNCE_CAPABILITIES: 6,
  /** selection, u32 types[] */
  CLIPBOARD_GRAB: 7,
  /** selection, u32 type */
  CLIPBOARD_REQUEST: 8,
  /** selection, of which the agent for Linux sometimes sends the first byte only */
  CLIPBOARD_RELEASE: 9,
  /** VDAgentMaxClipboard */
  MAX_CLIPBOARD: 14,
} as const;

/** VD_AGENT_CAP_*, as bit numbers. Those of both sides hold. */
export const VD_AGENT_CAP = {
  CLIPBOARD_BY_DEMAND: 5,
  /** Messages about the clipboard begin with the selection. */
  CLIPBOARD_SELECTION: 6,
  /** Lines of the guest end with CR LF. */
  GUEST_LINEEND_CRLF: 9,
  MAX_CLIPBOARD: 10,
  /** A grab takes the place of the one before without a release in between. */
  CLIPBOARD_NO_RELEASE_ON_REGRAB: 16,
} as const;

/** VD_AGENT_CLIPBOARD_* types of data. NONE answers a request that cannot be met. */
export const VD_AGENT_CLIPBOARD = { NONE: 0, UTF8_TEXT: 1, IMAGE_PNG: 2 } as const;

/**
 * Messages about the clipboard begin with a byte that is the selection, and three that are reserved. The header has them
 * inside `#if 0`.
 */
export const VD_AGENT_SELECTION_SIZE = 4;
export const VD_AGENT_CLIPBOARD_SELECTION_CLIPBOARD = 0;

/** Words of 32 capabilities each follow. */
export const VDAgentAnnounceCapabilities = struct('VDAgentAnnounceCapabilities', { request: u32 }, { packed: true });

/** In bytes; -1 is no limit. */
export const VDAgentMaxClipboard = struct('VDAgentMaxClipboard', { max: i32 }, { packed: true });
