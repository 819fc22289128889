import { Type } from 'typebox'
import { choice, duration, integer, section, text } from './schema-keys.ts'

const jobs = (description: string) =>
  Type.Array(text({ kind: 'jobName', description: 'Name of a job.' }), { description, default: [] })

/** The key `hooks`. */
export const hooks = Type.Array(
  section({
    name: text({ kind: 'label', description: 'How it is called in logs and metrics.', example: 'unmount' }),
    when: choice(['before', 'after'], {
      description: 'Before the job, or after it, whatever came of it.',
      default: 'after',
    }),
    jobs: jobs(
      'Jobs that it belongs to: dump, full, incremental, verify, restore, expire, copy, alert-drill. None: all of them.',
    ),
    on: choice(['always', 'success', 'failure'], {
      description: 'Which outcome, for one that runs after.',
      default: 'always',
    }),
    command: Type.Array(text({ description: 'The program and its arguments.' }), {
      description: 'The program, as an absolute path, and its arguments. There is no shell.',
      example: ['/usr/local/bin/after-backup', '--quiet'],
      minItems: 1,
    }),
    timeout: duration({
      description: 'It is ended after so long, with all that it has started.',
      default: '60s',
      atLeast: '1s',
      atMost: '1d',
    }),
    onFailure: choice(['fail', 'warn'], {
      description: 'What it means when one that runs before fails: the run fails, or only a warning.',
      default: 'fail',
    }),
  }),
  { description: 'Commands around jobs. They run as the OS user of Lifeboat.', default: [] },
)

/** The key `notify`. */
export const notify = Type.Array(
  section({
    name: text({ kind: 'label', description: 'How it is called in logs and metrics.', example: 'ops' }),
    kind: choice(['webhook', 'healthchecks'], {
      description: 'A signed JSON document, or pings as healthchecks.io takes them.',
      default: 'webhook',
    }),
    url: Type.Optional(
      text({
        kind: 'httpUrl',
        description: 'Where to send it.',
        absent: 'urlFile says it',
        example: 'https://example.com/hook',
      }),
    ),
    urlFile: Type.Optional(
      text({
        kind: 'path',
        description: 'File that holds the URL, read at each use: the URL of a ping is a secret.',
        absent: 'url says it',
        example: '/etc/lifeboat/ping-url',
      }),
    ),
    events: Type.Array(text({ kind: 'runEvent', description: 'Name of an event.' }), {
      description: 'start, success, failure. None: all of them.',
      default: [],
    }),
    jobs: jobs('Jobs whose runs are told of. None: all of them.'),
    secretFile: Type.Optional(
      text({
        kind: 'path',
        description: 'File with the key that a webhook is signed with, read at each use.',
        absent: 'not signed',
        example: '/etc/lifeboat/hook-key',
      }),
    ),
    timeout: duration({ description: 'For one attempt.', default: '10s', atLeast: '100ms', atMost: '5m' }),
    retries: integer({
      description: 'Further attempts, ever later, when it fails for a cause that can pass.',
      default: 5,
      atLeast: '0',
      atMost: '20',
    }),
  }),
  { description: 'Who is told of runs, over HTTP. Beside the alerts of Prometheus, not instead of them.', default: [] },
)
