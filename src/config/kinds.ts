import { isAbsolute } from 'node:path'
import { compileKeyPattern } from '../domain/file-pattern.ts'
import { walFileKind } from '../domain/wal.ts'
import { jobNames } from '../runner/job.ts'
import { parseListen, parseRepositoryUrl } from './addresses.ts'
import { isHttpUrl, isServerUrl, matching, wrong } from './kind-checks.ts'
import { bucketKinds } from './kinds-buckets.ts'
import { costKinds } from './kinds-costs.ts'
import { parseMoment } from './moment.ts'
import { assertRecipient } from './recipients.ts'
import { parseCron } from './schedule.ts'
import { formatDuration, formatPercent, formatSize, parseDuration, parsePercent, parseSize, quote } from './units.ts'
import { isZone } from './zones.ts'

/** What a schema says about a key besides its JSON type; the rest of a schema's fields are JSON Schema's own. */
export interface Annotations {
  readonly kind?: Kind
  readonly description?: string
  readonly default?: unknown
  /** What happens when the key is left out, for keys without a default. */
  readonly absent?: string
  /** Shown in the example file for a key without a default, or with one that does not fit the rest of the example. */
  readonly example?: unknown
  /** Bounds of a number, duration or size, as they are written. */
  readonly atLeast?: string
  readonly atMost?: string
  readonly enum?: readonly string[]
}

/** A meaning that a value can have, beyond its JSON type. */
export interface KindRules {
  /** The type as the documentation names it. */
  readonly label: string
  /** Completes "must be …". */
  readonly expected: string
  /** False where the value is not repeated in messages, because it may be a secret, or one that was put into the wrong key. */
  readonly shown: boolean
  /** Throws a LifeboatError when a value of the right JSON type is wrong all the same. */
  readonly check?: (value: unknown, annotations: Annotations) => void
}

/** A check of a quantity: read by `parse`, then held against the bounds of the key. */
const bounded =
  (parse: (text: string) => number, format: (value: number) => string) =>
  (value: unknown, { atLeast, atMost }: Annotations) => {
    const number = parse(String(value))
    if (atLeast !== undefined && number < parse(atLeast)) {
      throw wrong(`must be at least ${atLeast}, not ${format(number)}`)
    }
    if (atMost !== undefined && number > parse(atMost)) throw wrong(`must be at most ${atMost}, not ${format(number)}`)
  }

// PostgreSQL cuts names after 63 bytes (NAMEDATALEN): a longer one would never match the name that the server gives.
const isPostgresName = (text: string) => !text.includes('\0') && Buffer.byteLength(text) <= 63
const plainName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/
const hasControl = /\p{Cc}/u

const text = { label: 'text', expected: 'a text', shown: false } as const

export const kinds = {
  text,
  integer: {
    label: 'number',
    expected: 'a whole number',
    shown: false,
    check: bounded(Number, String),
  },
  boolean: { label: 'true or false', expected: 'true or false', shown: false },
  choice: { label: 'one of', expected: 'one of', shown: false },
  duration: {
    label: 'duration',
    expected: 'a duration with a unit, e.g. 30d, 4h or 90s',
    shown: true,
    check: bounded(parseDuration, formatDuration),
  },
  keepFor: {
    label: 'duration or `forever`',
    expected: 'a duration with a unit, e.g. 30d, or forever',
    shown: true,
    check: (value, annotations) => {
      if (value !== 'forever') bounded(parseDuration, formatDuration)(value, annotations)
    },
  },
  size: {
    label: 'size',
    expected: 'a size, e.g. 64MiB',
    shown: true,
    check: bounded(parseSize, formatSize),
  },
  schedule: {
    label: 'cron expression or `off`',
    expected: 'a cron expression, or off',
    shown: true,
    check: (value) => {
      if (typeof value === 'string' && value !== 'off') parseCron(value)
    },
  },
  listen: {
    label: 'address and port',
    expected: 'an address and a port, e.g. 127.0.0.1:10187',
    shown: true,
    check: (value) => {
      parseListen(String(value))
    },
  },
  label: {
    label: 'name',
    expected: 'a name',
    shown: false,
    check: matching(
      (name) => plainName.test(name),
      'must consist of letters, digits, dots, underscores and dashes',
      'It begins with a letter or a digit and has at most 63 characters: it becomes a folder and a label.',
    ),
  },
  postgresName: {
    ...text,
    check: matching(isPostgresName, 'must have at most 63 bytes and no NUL, like every name in PostgreSQL'),
  },
  slotName: {
    label: 'name of a slot',
    expected: 'the name of a replication slot',
    shown: true,
    // PostgreSQL allows no others.
    check: matching(
      (name) => /^[a-z0-9_]{1,63}$/.test(name),
      'must consist of at most 63 small letters, digits and underscores',
    ),
  },
  host: {
    label: 'host or directory',
    expected: 'a host name, an address, or the directory of a Unix socket',
    shown: false,
    check: matching(
      (host) => !hasControl.test(host) && (isAbsolute(host) || /^[^\s/,@]{1,253}$/.test(host)),
      'must be one host name, one address, or the absolute directory of a Unix socket',
      'User, port and database have keys of their own.',
    ),
  },
  path: {
    label: 'absolute path',
    expected: 'an absolute path',
    shown: false,
    check: matching(
      (path) => isAbsolute(path) && !hasControl.test(path),
      'must be an absolute path without control characters',
    ),
  },
  url: {
    label: '`file://` or `s3://` url',
    expected: 'a file:// or s3:// url',
    shown: false,
    check: (value) => {
      parseRepositoryUrl(String(value))
    },
  },
  osUser: {
    label: 'name of an OS user',
    expected: 'the name of an OS user',
    shown: false,
    check: (value) => {
      // useradd(8) names the pattern. A leading dash would be read as an option elsewhere.
      if (!/^[a-z_][a-z0-9_-]{0,31}$/i.test(String(value))) throw wrong('is not the name of an OS user')
      if (value === 'root')
        throw wrong('must not be root: PostgreSQL refuses to run as root', 'Use nobody, or a user of its own.')
    },
  },
  secret: {
    label: 'text, secret',
    expected: 'a text',
    shown: false,
    check: matching(
      (secret) => !/[\0\r\n]/.test(secret),
      'holds a line break or a NUL, which a password file cannot carry',
    ),
  },
  sha256: {
    label: 'SHA-256, hexadecimal',
    expected: 'the SHA-256 of the token, in quotes',
    shown: false,
    check: (value) => {
      if (!/^[0-9a-f]{64}$/i.test(String(value))) {
        throw wrong(
          'is not the hexadecimal SHA-256 of a token',
          'Give the hash, never the token: openssl rand -hex 32 makes a token, printf %s TOKEN | sha256sum its hash.',
        )
      }
      if (hashesOfNothing.has(String(value).toLowerCase())) {
        throw wrong('is the SHA-256 of nothing', 'The command that made it did not see the token.')
      }
    },
  },
  filePattern: {
    label: 'pattern of names',
    expected: 'a pattern of file names',
    shown: true,
    check: (value) => {
      // What cannot be in a directory, `checkWatches` sees.
      compileKeyPattern(String(value))
    },
  },
  walSegment: {
    label: 'name of a WAL segment',
    expected: 'the name of a WAL segment',
    shown: true,
    check: matching(
      (name) => walFileKind(name) === 'segment',
      'must be the name of a WAL segment: 24 digits, of which the first eight are its timeline',
      'As the server has it in pg_wal, with capital letters.',
    ),
  },
  timeOfDay: {
    label: 'time of day',
    expected: 'a time in quotes, e.g. "08:00"',
    shown: true,
    check: matching((time) => /^(?:[01]\d|2[0-3]):[0-5]\d$/.test(time), 'must be hours and minutes, 00:00 to 23:59'),
  },
  timezone: {
    label: 'time zone',
    expected: 'the name of a time zone',
    shown: true,
    check: matching(isZone, 'is not a time zone', 'Write its IANA name, e.g. Europe/Berlin, or UTC.'),
  },
  moment: {
    label: 'date, or date and time',
    expected: 'a date in quotes',
    shown: true,
    check: (value) => {
      parseMoment(String(value))
    },
  },
  jobName: {
    label: 'name of a job',
    expected: 'the name of a job',
    shown: true,
    check: matching((name) => jobNames.some((job) => job === name), `must be one of ${jobNames.join(', ')}`),
  },
  runEvent: {
    label: 'event',
    expected: 'an event',
    shown: true,
    check: matching((name) => ['start', 'success', 'failure'].includes(name), 'must be one of start, success, failure'),
  },
  httpUrl: {
    label: 'URL, secret',
    expected: 'a URL',
    shown: false,
    check: matching((url) => isHttpUrl(url), 'must be a URL that begins with http:// or https://'),
  },
  serverUrl: {
    label: 'URL',
    expected: 'a URL',
    shown: false,
    check: matching(
      isServerUrl,
      'must be a URL that begins with http:// or https://, without a user, ? or #',
      'What a server wants to see is written into headersFile.',
    ),
  },
  receiverName: {
    label: 'name of a receiver',
    expected: 'the name of a receiver',
    shown: true,
    check: matching((name) => !hasControl.test(name), 'must have no control characters'),
  },
  recipient: {
    label: 'public key',
    expected: 'a public key',
    shown: false, // somebody may have put the private one there
    check: assertRecipient,
  },
  percent: {
    label: 'percentage',
    expected: 'a share with a percent sign, e.g. 50%',
    shown: true,
    check: bounded(parsePercent, formatPercent),
  },
  ...bucketKinds,
  ...costKinds,
  scalar: { label: 'text, number, boolean or null', expected: 'a text, a number, true, false or null', shown: false },
} as const satisfies Readonly<Record<string, KindRules>>

export type Kind = keyof typeof kinds

/** SHA-256 of no byte at all and of one newline: what `sha256sum` says when its input did not arrive. */
const hashesOfNothing = new Set([
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b',
])

/** A value for a message, if its kind may be shown at all; else only what sort of value it is. */
export function describeValue(value: unknown, kind: Kind | undefined): string {
  if (value === null) return 'empty'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a section with keys of its own'
  const shown = kind !== undefined && kinds[kind].shown
  if (typeof value === 'string') return shown ? quote(value) : 'a text'
  if (typeof value === 'number') return shown || kind === 'integer' ? String(value) : 'a number'
  if (typeof value === 'boolean') return 'true or false'
  return 'something else'
}
