import { DrillState } from '../alert-drill/state.ts'
import { type DrillHop, type DrillResult, drillOrigins } from '../domain/alert-drill.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { Run } from '../runner/job.ts'
import {
  type CliContext,
  type Command,
  configHelp,
  configOf,
  configOption,
  jsonHelp,
  jsonOption,
  oneOf,
  parse,
  verboseHelp,
  verboseOption,
} from './command.ts'
import { errorText } from './error-text.ts'
import { formatSeconds, oneLine } from './format.ts'
import { runJob } from './run-job.ts'

const options = {
  ...configOption,
  ...jsonOption,
  ...verboseOption,
  from: { type: 'string' },
  'no-echo': { type: 'boolean' },
} as const

export const drillCommand: Command = {
  name: 'drill',
  summary: 'try whether alerts arrive, with one that says that it is a drill',
  usage: 'drill alert [--from ORIGIN] [--no-echo] [--json]',
  options: [
    ['--from ORIGIN', `where it begins: ${drillOrigins.join(' or ')} (default: alertDrill.from)`],
    ['--no-echo', 'wait for no receiver that sends it back: what is behind Alertmanager is not proven'],
    configHelp,
    verboseHelp,
    jsonHelp,
  ],
  async run(argv, context) {
    const { values, positionals } = parse('drill', argv, options, 1)
    const [kind] = positionals
    if (kind !== 'alert')
      throw new LifeboatError(
        'usage-invalid',
        kind === undefined ? 'what is to be tried?' : `there is no drill ${JSON.stringify(kind)}`,
        { hint: 'for example: lifeboat drill alert' },
      )
    const from = oneOf('--from', values.from, drillOrigins)
    const config = await configOf(values, context)
    if (config.alertDrill.alertmanagers.length === 0)
      throw new LifeboatError('config-invalid', 'no Alertmanager is configured, so it cannot be asked for an alert', {
        hint: 'set alertDrill.alertmanagers, e.g. [{ url: "http://127.0.0.1:9093" }]',
      })
    return runJob(
      {
        config,
        verbose: values.verbose === true,
        job: 'alert-drill',
        params: { from: from ?? config.alertDrill.from, echo: values['no-echo'] !== true },
        onProgress: tellProgress(context.err),
        report: (run, core) => {
          const result = new DrillState(core.history).resultOf(run.id)
          if (values.json) {
            context.out.write(`${JSON.stringify({ ...run, drill: result }, null, 2)}\n`)
            return
          }
          if (result !== null) context.out.write(resultText(result))
          if (run.failure !== null) context.err.write(errorText(run.failure))
        },
      },
      context,
    )
  },
}

/** A line for each thing that is waited for, where no line can be rewritten. */
function tellProgress(err: CliContext['err']): (run: Run) => void {
  let told = ''
  return ({ progress }) => {
    const words = progress?.message ?? ''
    if (err.isTTY === true || words === told) return
    told = words
    err.write(`${oneLine(words)}\n`)
  }
}

/** One line for each place, then what it shows. */
function resultText({ drill, hops, proven }: DrillResult): string {
  const lines = hops.map(
    ({ outcome, hop, seconds, detail }: DrillHop) =>
      `  ${outcome.padEnd(7)} ${hop.padEnd(13)} ${formatSeconds(seconds).padStart(7)}  ${oneLine(detail)}\n`,
  )
  const end = proven ? 'The way from an alert to the receiver is proven.' : 'The way to the receiver is not proven.'
  return `drill ${drill}\n${lines.join('')}${end}\n`
}
