import { type Command, configHelp, configOf, configOption, parse } from './command.ts'

export const serveCommand: Command = {
  name: 'serve',
  summary: 'run the sidecar: schedules, metrics, API',
  usage: 'serve [--config FILE]',
  options: [configHelp],
  async run(argv, context) {
    const { values } = parse('serve', argv, configOption)
    const config = await configOf(values, context)
    // Here, not above: the other commands need neither the HTTP server nor the metrics.
    const { createApp } = await import('../app.ts')
    const log = context.makeLog(config.log.level, 'out')
    const app = await createApp(config, { clock: context.clock, log, version: context.version })
    try {
      await app.start()
      await new Promise<void>((resolve) => {
        if (context.signal.aborted) resolve()
        else context.signal.addEventListener('abort', () => resolve(), { once: true })
      })
    } finally {
      await app.stop()
    }
    return 0
  },
}
