import { type Logger, pino } from 'pino'

/** Never in a log: what a field of this name holds is a secret. */
const redacted = [
  'password',
  'token',
  'authorization',
  '*.password',
  '*.token',
  '*.authorization',
  'req.headers.authorization',
]

/** Writes JSON lines, times in UTC, at once. */
export function makeLog(level: string, stream: 'out' | 'err'): Logger {
  return pino(
    { level, redact: redacted, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: stream === 'out' ? 1 : 2, sync: true }),
  )
}
