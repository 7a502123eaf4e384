typedef int ma_plot_empty;
