import { type Clock, withDeadline } from '../clock.ts'
import type { AlertServer } from '../config/alert-servers.ts'
import type { ValidatedConfig } from '../config/validated.ts'
import { type DrillHop, type DrillOrigin, drillOrigins } from '../domain/alert-drill.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import type { Job, JobContext, JobParams } from '../runner/job.ts'
import { alertmanagerHop, resolvedHop, whyNotHeard } from './alertmanager.ts'
import { type Asker, createAsker } from './ask.ts'
import { type Hop, passHop } from './hop.ts'
import { postedAlert } from './posted.ts'
import { prometheusHop, type Wanted, whyNotSent } from './prometheus.ts'
import type { DrillState } from './state.ts'

export interface AlertDrillOptions {
  readonly config: Pick<ValidatedConfig, 'alertDrill' | 'cluster' | 'stateDir'>
  readonly state: DrillState
  readonly clock: Clock
  /** Of Lifeboat, for the servers' logs. */
  readonly version: string
}

/** A sidecar renders its metrics every 15 seconds. */
const shownWithinMs = 30_000
/** For requests that are under way, and to take back what was posted. */
const spareMs = 60_000

/** None where no Alertmanager is known. */
export function alertDrillJobs(options: AlertDrillOptions): readonly Job[] {
  return options.config.alertDrill.alertmanagers.length === 0 ? [] : [alertDrillJob(options)]
}

/**
 * The job `alert-drill`: an alert that says that it is a drill goes the way of all of them, and each place that it comes through is
 * asked for it. It stops at the first that does not have it in time, and always ends the alert.
 *
 * Params: `{ from: 'rule' | 'alertmanager', echo: boolean }`; without `echo` nobody is waited for who sends it back, and nothing counts as
 * proven.
 */
function alertDrillJob(options: AlertDrillOptions): Job {
  const { prometheusMs, alertmanagerMs, receiverMs, resolvedMs, requestMs } = options.config.alertDrill
  const longest =
    shownWithinMs + prometheusMs + alertmanagerMs + receiverMs + resolvedMs + 2 * requestMs * drillSteps + spareMs
  return {
    name: 'alert-drill',
    lane: 'alert-drill',
    timeoutSeconds: Math.ceil(longest / 1000),
    run: (params, context) => runDrill(options, params, context),
  }
}

const drillSteps = 5
const alertsPath = '/api/v2/alerts'

async function runDrill(options: AlertDrillOptions, params: JobParams, context: JobContext): Promise<void> {
  const { clock, version } = options
  const config = options.config.alertDrill
  const from = drillOrigins.find((one) => one === params.from)
  if (from === undefined || typeof params.echo !== 'boolean')
    throw new LifeboatError('usage-invalid', 'from must be rule or alertmanager, and echo true or false')
  const asking = { clock, requestMs: config.requestMs, userAgent: `lifeboat/${version}` }
  const open: Asker[] = []
  const ask = async (server: AlertServer) => {
    const asker = await createAsker(server, asking)
    open.push(asker)
    return asker
  }
  try {
    const alertmanagers: Asker[] = []
    for (const server of config.alertmanagers) alertmanagers.push(await ask(server))
    const prometheus = config.prometheus === null || from === 'alertmanager' ? null : await ask(config.prometheus)
    await drill(options, { from, echo: params.echo, alertmanagers, prometheus }, context)
  } finally {
    await Promise.all(open.map((asker) => asker.close()))
  }
}

interface Way {
  readonly from: DrillOrigin
  readonly echo: boolean
  readonly alertmanagers: readonly Asker[]
  readonly prometheus: Asker | null
}

async function drill(options: AlertDrillOptions, way: Way, context: JobContext): Promise<void> {
  const { state, clock } = options
  const { cluster, alertDrill: config } = options.config
  const { runId, log } = context
  const startsAt = clock.now()
  const id = state.begin(runId, { now: startsAt, isShown: way.from === 'rule' })
  const wanted = { drill: id, cluster }
  const hops: DrillHop[] = []
  const isWhole = way.echo && way.from === config.from
  let proven = false
  const steps = stepsOf(options, way, { wanted, startsAt })
  const total = steps.length + 1
  const pass = async (hop: Hop) => {
    context.progress({ done: hops.length, total, unit: 'steps', message: `waiting for ${hop.waitsFor}` })
    const begun = clock.monotonic()
    const note = (outcome: DrillHop['outcome'], detail: string) => {
      hops.push({ hop: hop.hop, outcome, seconds: (clock.monotonic() - begun) / 1000, detail })
      state.keepResult({ drill: id, runId, from: way.from, hops, proven })
    }
    try {
      const detail = await passHop(hop, { clock, signal: context.signal })
      if (hop.hop === 'receiver' && isWhole) {
        proven = true
        state.noteProven(clock.now())
      }
      note('passed', detail)
      log.info({ drill: id, hop: hop.hop, detail }, 'the alert drill came through')
    } catch (error) {
      note('failed', whyOf(error))
      throw error
    }
  }
  try {
    for (const step of steps) await pass(step)
  } catch (error) {
    state.end()
    await takeBack(options, way, { wanted, startsAt }, context)
    throw error
  }
  state.end()
  await takeBack(options, way, { wanted, startsAt }, context)
  await pass(resolvedHop(way.alertmanagers, wanted, config.resolvedMs))
  context.progress({ done: total, total, unit: 'steps', message: 'the alert came through, and has ended' })
}

function whyOf(error: unknown): string {
  const why = error instanceof LifeboatError ? error.details?.why : undefined
  return typeof why === 'string' ? why : toFailure(error).message
}

interface Posting {
  readonly wanted: Wanted
  readonly startsAt: Date
}

function stepsOf(options: AlertDrillOptions, way: Way, { wanted, startsAt }: Posting): readonly Hop[] {
  const { state, clock } = options
  const { stateDir, alertDrill: config } = options.config
  const { from, alertmanagers, prometheus } = way
  const sidecar: Hop = {
    hop: 'sidecar',
    waitsFor: 'the sidecar to show it',
    withinMs: shownWithinMs,
    look: async () =>
      state.isShown(wanted.drill)
        ? { state: 'passed', detail: 'it shows the drill at /metrics' }
        : {
            state: 'waiting',
            why: `no sidecar works with ${stateDir}, so nothing shows the drill`,
            hint: 'start `lifeboat serve`, or begin the drill at Alertmanager: --from alertmanager --no-echo',
          },
  }
  // Where Prometheus is not asked, what it takes is waited for here.
  const withinMs = config.alertmanagerMs + (from === 'rule' && prometheus === null ? config.prometheusMs : 0)
  const longestMs = withinMs + config.receiverMs + spareMs
  const alertmanager = alertmanagerHop(alertmanagers, wanted, {
    withinMs,
    ...(from === 'alertmanager'
      ? {
          before: (asker, signal) => {
            const endsAt = new Date(clock.now().getTime() + longestMs)
            return asker.ask(alertsPath, signal, [postedAlert(wanted, { startsAt, endsAt })])
          },
        }
      : {}),
    explain: async (signal) => (prometheus === null ? null : whyNotSent(prometheus, signal)),
  })
  const receiver: Hop = {
    hop: 'receiver',
    waitsFor: config.receiver === null ? 'a receiver to send it back' : `${config.receiver} to send it back`,
    withinMs: config.receiverMs,
    look: async () => {
      const echoes = state.echoes(wanted.drill)
      const right = echoes.find((name) => config.receiver === null || name === config.receiver)
      if (right !== undefined) return { state: 'passed', detail: `${right} has sent it back` }
      const others = echoes.length === 0 ? '' : `: only ${echoes.join(' and ')} did`
      return {
        state: 'waiting',
        why: `${config.receiver ?? 'no receiver'} has not sent it back${others}`,
        hint: 'look at the routes of Alertmanager, and at its log',
      }
    },
    explain: async (signal) =>
      state.echoes(wanted.drill).length > 0 ? null : whyNotHeard(alertmanagers, wanted, signal),
  }
  return [
    ...(from === 'rule' ? [sidecar] : []),
    ...(prometheus === null ? [] : [prometheusHop(prometheus, wanted, config.prometheusMs)]),
    alertmanager,
    ...(way.echo ? [receiver] : []),
  ]
}

/** Ends what was posted, also when the run was told to end: its time would run out in any case. */
async function takeBack(
  { clock, config }: AlertDrillOptions,
  { from, alertmanagers }: Way,
  { wanted, startsAt }: Posting,
  { log }: JobContext,
): Promise<void> {
  if (from !== 'alertmanager') return
  const reason = new DOMException('late', 'TimeoutError')
  const ended = [postedAlert(wanted, { startsAt, endsAt: clock.now() })]
  for (const asker of alertmanagers) {
    const answer = await withDeadline(clock, { ms: config.alertDrill.requestMs, reason, signals: [] }, (signal) =>
      asker.ask(alertsPath, signal, ended),
    ).catch(() => null)
    if (answer?.ok !== true) log.warn({ url: asker.url }, 'the alert of a drill could not be ended: it ends by itself')
  }
}
