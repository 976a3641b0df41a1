/** The runtime, or user code that took its place, broke the channel's protocol. Its sandbox has to go. */
export class ProtocolViolation extends Error {
  override readonly name = 'ProtocolViolation';
}
