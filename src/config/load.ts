import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseListen } from './addresses.ts'
import { alertDrillOf } from './alert-drill.ts'
import { checkConsistency, texts } from './consistency.ts'
import { priceTableOf } from './costs.ts'
import { encryptionOf } from './encryption.ts'
import { applyEnvironment, checkVariables, type Environment, fileVariable, keysFromEnvironment } from './env.ts'
import { hookOf, notifyOf } from './hooks.ts'
import { physicalMaxAges, physicalOf } from './physical.ts'
import { type KeyPath, Problems } from './problems.ts'
import { type ReadYaml, readConfigFile, readYaml } from './read.ts'
import { repositoryOf } from './repositories.ts'
import { maxAgeSeconds } from './schedule.ts'
import type { RawConfig } from './schema.ts'
import { accessHint, accessProblem, readSecretFile } from './secrets.ts'
import { checkShape } from './shape.ts'
import { parseDuration, parsePercent, parseSize } from './units.ts'
import type { UnbrandedConfig, ValidatedConfig } from './validated.ts'
import { holeOf } from './wal-holes.ts'
import { watchedBucketOf, watchOf } from './watch.ts'

export interface LoadOptions {
  /** The YAML file; without it `LIFEBOAT_CONFIG` names one; without that the environment alone is the configuration. */
  readonly path?: string
  /** The contents, when they are at hand already; `path` then serves the messages only. */
  readonly text?: string
  /** The process's environment: every key can be overridden, see `docs/configuration.md`. */
  readonly env: Environment
}

/**
 * Loads, checks and freezes the configuration. This is the only way to a ValidatedConfig.
 *
 * Throws `config-invalid` with every problem that was found: `details.problems` is a `Problem[]`, and the message lists
 * them. No message repeats a password, a token, or any other free text of the configuration; a config that is printed or
 * turned into JSON shows no password and no hash of a token.
 */
export async function loadConfig({ path, text, env }: LoadOptions): Promise<ValidatedConfig> {
  const file = path ?? (text === undefined && env[fileVariable] ? env[fileVariable] : undefined)
  const name = file ?? 'configuration'
  const contents = text !== undefined ? { text } : file !== undefined ? await readConfigFile(file) : { text: '' }
  const isNothing = file === undefined && text === undefined && keysFromEnvironment(env).length === 0
  const yaml = readYaml('text' in contents ? contents.text : '')

  const problems = new Problems((at) => placeOf(at, name, yaml, env))
  checkVariables(env, problems)
  if (isNothing)
    problems.add(
      [],
      'no configuration was given',
      `Name its file: --config FILE, or ${fileVariable}=FILE. Where there is none yet, \`lifeboat init\` makes one.`,
    )
  if ('message' in contents) problems.add([], `${name} ${contents.message}`, contents.hint)
  for (const { message, line } of yaml.errors) problems.add([], `${name}:${line}: ${message}`)
  // Without the file's keys every required one would seem to be missing.
  if (isNothing || 'message' in contents || yaml.errors.length > 0) problems.throwIfAny()

  const tree = checkShape(applyEnvironment(yaml.tree, env, problems), problems)
  await checkConsistency(tree, problems)
  if (file !== undefined && text === undefined) await checkFileAccess(file, yaml.tree, problems)
  problems.throwIfAny()
  // The one place that brands: everything above has run. That `checkShape` lets through only what the schema does is
  // tested.
  return deepFreeze(build(tree as RawConfig)) as ValidatedConfig
}

/** The variable that set a key, or else its line in the file. */
function placeOf(path: KeyPath, name: string, yaml: ReadYaml, env: Environment): string | undefined {
  const setter = keysFromEnvironment(env).find((key) => key.path.every((part, index) => part === path[index]))
  if (setter) return setter.variable
  const line = yaml.lineOf(path)
  return line === undefined ? undefined : `${name}:${line}`
}

/** A file with a secret in it must be guarded like a password file: whoever knows the URL of a ping can send it. */
async function checkFileAccess(file: string, tree: unknown, problems: Problems): Promise<void> {
  const secrets = [...texts(tree, 'postgres', 'password'), ...texts(tree, 'notify', '*', 'url')]
  if (secrets.length === 0) return
  const access = accessProblem(await stat(file))
  for (const { path } of access ? secrets : []) problems.add(path, `stands in a file that ${access}`, accessHint)
}

const seconds = (duration: string) => parseDuration(duration) / 1000
const offIsNull = (schedule: string | null) => (schedule === 'off' ? null : schedule)

function streamOf(raw: RawConfig['wal']['stream']): UnbrandedConfig['wal']['stream'] {
  if (raw === undefined) return null
  return { slot: raw.slot, synchronous: raw.synchronous, shipEveryMs: parseDuration(raw.shipEvery) }
}

function build(raw: RawConfig): UnbrandedConfig {
  const { postgres, dump, verification, policy } = raw
  const schedule = {
    dump: offIsNull(raw.schedule.dump),
    full: offIsNull(raw.schedule.full),
    incremental: offIsNull(raw.schedule.incremental),
    verify: offIsNull(raw.schedule.verify),
    expire: offIsNull(raw.schedule.expire),
    alertDrill: offIsNull(raw.schedule.alertDrill),
  }
  const stateDir = resolve(raw.stateDir)
  const tables = raw.costs.prices.map(priceTableOf)
  return {
    cluster: raw.cluster,
    listen: parseListen(raw.listen),
    stateDir,
    workDir: raw.workDir === undefined ? join(stateDir, 'work') : resolve(raw.workDir),
    postgres: {
      host: postgres.host,
      port: postgres.port,
      user: postgres.user,
      password: passwordOf(postgres),
      databases: postgres.databases ?? null,
      binDir: postgres.binDir ?? null,
      maintenanceDatabase: postgres.maintenanceDatabase,
      connectTimeoutMs: parseDuration(postgres.connectTimeout),
      sslMode: postgres.sslMode,
      sslRootCert: postgres.sslRootCert ?? null,
    },
    repositories: raw.repositories.map((one) => repositoryOf(one, tables)),
    encryption: encryptionOf(raw.encryption),
    watch: raw.watch.flatMap(watchOf),
    watchedBuckets: raw.watch.flatMap(watchedBucketOf),
    wal: {
      archive: raw.wal.archive === undefined ? null : resolve(raw.wal.archive),
      clockSeconds: seconds(raw.wal.clockInterval),
      holes: raw.wal.holes.map(holeOf),
      stream: streamOf(raw.wal.stream),
      slotLimitBytes: parseSize(String(raw.wal.slotLimit)),
      keepInArchiveMs: raw.wal.keepInArchive === undefined ? null : parseDuration(raw.wal.keepInArchive),
      ship: raw.wal.ship,
    },
    dump: {
      jobs: dump.jobs,
      timeoutSeconds: seconds(dump.timeout),
      fingerprint: {
        enabled: dump.fingerprint.enabled,
        maxSeconds: seconds(dump.fingerprint.maxDuration),
        maxTableBytes: parseSize(String(dump.fingerprint.maxTableSize)),
      },
    },
    physical: physicalOf(raw),
    verification: {
      level: verification.level,
      jobs: verification.jobs,
      timeoutSeconds: seconds(verification.timeout),
      targetTimeoutSeconds: verification.targetTimeout === undefined ? null : seconds(verification.targetTimeout),
      reproofSeconds: seconds(verification.reproofPeriod),
      osUser: verification.osUser,
      assertions: verification.assertions.map(({ name, database, sql, expect }, index) => ({
        name: name ?? `assertion ${index + 1}`,
        database,
        sql,
        expect,
      })),
    },
    schedule: { ...schedule, catchUp: raw.schedule.catchUp },
    runner: {
      queueLimit: raw.runner.queueLimit,
      retries: raw.runner.retries,
      retryDelayMs: parseDuration(raw.runner.retryDelay),
    },
    lease: { ttlSeconds: raw.lease.ttl === undefined ? null : seconds(raw.lease.ttl) },
    objectives: { rpoSeconds: seconds(raw.objectives.rpo), rtoSeconds: seconds(raw.objectives.rto) },
    policy: {
      dumpMaxAgeSeconds: limitOf(policy.dumpMaxAge, schedule.dump),
      ...physicalMaxAges(schedule),
      verificationMaxAgeSeconds: limitOf(policy.verificationMaxAge, schedule.verify),
      alertPathMaxAgeSeconds: limitOf(policy.alertPathMaxAge, schedule.alertDrill),
    },
    hooks: raw.hooks.map(hookOf),
    notify: raw.notify.map(notifyOf),
    alertDrill: alertDrillOf(raw),
    growth: { shrinkBelow: parsePercent(raw.growth.shrinkBelow), growAbove: parsePercent(raw.growth.growAbove) },
    observe: { intervalSeconds: seconds(raw.observe.interval), timeoutSeconds: seconds(raw.observe.timeout) },
    auth: { tokens: raw.auth.tokens.map(({ name, role, sha256 }) => withHidden({ name, role }, { sha256 })) },
    log: { level: raw.log.level },
  }
}

function limitOf(set: string | undefined, schedule: string | null): number | null {
  if (set !== undefined) return seconds(set)
  return schedule === null ? null : maxAgeSeconds(schedule)
}

function passwordOf({ password, passwordFile }: RawConfig['postgres']): (() => Promise<string>) | null {
  if (passwordFile !== undefined) return () => readSecretFile(passwordFile)
  return password === undefined ? null : async () => password
}

/** A token whose hash is there for those who ask for it by name, and not for loggers and JSON, which enumerate. */
function withHidden<Shown extends object>(shown: Shown, { sha256 }: { sha256: string }): Shown & { sha256: string } {
  const hidden = { value: sha256.toLowerCase(), enumerable: false }
  return Object.defineProperty(shown, 'sha256', hidden) as Shown & { sha256: string }
}

function deepFreeze<Value>(value: Value): Value {
  if (typeof value === 'object' && value !== null) Object.values(value).forEach(deepFreeze)
  return Object.freeze(value)
}
